//! Values under a name: they outlive their handles, and the program that made them.

use skep_render::Message;

use crate::{
    api::{
        cluster::Cluster,
        remote::{Handle, Remote},
    },
    model::{
        cluster::Published,
        error::{Error, Result},
        ids::Key,
    },
};

impl Cluster {
    /// Keeps a value under a name, for as long as the cluster: it outlives its handles, and this program.
    ///
    /// ```no_run
    /// # fn main() -> skep_cluster::Result<()> {
    /// # let cluster = skep_cluster::Cluster::local().start()?;
    /// let model = cluster.submit(|seed: u64| seed + 1, 41u64);
    /// cluster.publish("model", &model)?;
    /// // later, after the evaluation process died, or in another notebook's cell:
    /// let model = cluster.lookup::<u64>("model")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the value is gone already, or the scheduler is.
    pub fn publish<T>(&self, name: &str, value: &Remote<T>) -> Result<()> {
        self.publish_all(name, std::slice::from_ref(value))
    }

    /// Keeps several values under one name, in order: the partitions of a frame.
    ///
    /// # Errors
    /// As [`Cluster::publish`].
    pub fn publish_all<T>(&self, name: &str, values: &[Remote<T>]) -> Result<()> {
        let keys = values
            .iter()
            .map(|value| Ok(value.handle.held()?.key))
            .collect::<Result<Vec<_>>>()?;
        self.publish_keys(name, keys, std::any::type_name::<T>())
    }

    #[inline(never)]
    fn publish_keys(&self, name: &str, keys: Vec<Key>, type_name: &str) -> Result<()> {
        let published = Published {
            name: name.to_string(),
            keys,
            type_name: type_name.to_string(),
            layout: crate::call::locate::layout_of(type_name),
            task: String::new(),
        };
        let is_there = self
            .client
            .names()?
            .publish(published)?
            .iter()
            .any(|published| published.name == name);
        if is_there {
            Ok(())
        } else {
            Err(Error::Name(
                Message::new(format!(
                    "`{name}` was not published: its value is not on the cluster any more"
                ))
                .hint("submit it again"),
            ))
        }
    }

    /// The value that was published under a name.
    ///
    /// # Errors
    /// When the name is not known or stands for another type; the message says which.
    pub fn lookup<T>(&self, name: &str) -> Result<Remote<T>> {
        let mut found = self.lookup_all(name)?;
        match found.len() {
            1 => Ok(found.remove(0)),
            n => Err(Error::Name(
                Message::new(format!("`{name}` stands for {n} values"))
                    .hint("`lookup_all` gives them; a frame is found by `Frame::lookup`"),
            )),
        }
    }

    /// All values that were published under one name.
    ///
    /// # Errors
    /// As [`Cluster::lookup`].
    pub fn lookup_all<T>(&self, name: &str) -> Result<Vec<Remote<T>>> {
        Ok(self
            .find(name, std::any::type_name::<T>())?
            .into_iter()
            .map(Handle::typed)
            .collect())
    }

    #[inline(never)]
    fn find(&self, name: &str, type_name: &str) -> Result<Vec<Handle>> {
        let all = self.client.names()?.published()?;
        let Some(found) = all.iter().find(|published| published.name == name) else {
            let known: Vec<&str> = all.iter().map(|published| published.name.as_str()).collect();
            let hint = if known.is_empty() {
                "nothing is published yet; `cluster.publish(name, &value)` does it".to_string()
            } else {
                format!("published are: {}", known.join(", "))
            };
            return Err(Error::Name(
                Message::new(format!("nothing is published as `{name}`")).hint(hint),
            ));
        };
        if found.type_name != type_name {
            let (is, wanted) = (
                skep_render::short_type(&found.type_name),
                skep_render::short_type(type_name),
            );
            return Err(Error::Name(
                Message::new(format!("`{name}` is a `{is}`, not a `{wanted}`"))
                    .hint(format!("`cluster.lookup::<{is}>(\"{name}\")`")),
            ));
        }
        if found.layout != crate::call::locate::layout_of(type_name) {
            let is = skep_render::short_type(type_name);
            return Err(Error::Name(
                Message::new(format!(
                    "`{name}` is a `{is}` as it was before `{is}` was defined anew"
                ))
                .hint("submit and publish it again"),
            ));
        }
        self.client.submit(Vec::new(), &found.keys, &[])?;
        let adopted = |key: &Key| Handle::adopted(&self.client, *key, &found.task);
        Ok(found.keys.iter().map(adopted).collect())
    }

    /// Lets the value of a name go, once nobody else holds it.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn unpublish(&self, name: &str) -> Result<()> {
        self.client.names()?.unpublish(name)
    }

    /// The names that values are published under.
    ///
    /// # Errors
    /// When the scheduler is gone.
    pub fn published(&self) -> Result<Vec<String>> {
        Ok(self
            .client
            .names()?
            .published()?
            .into_iter()
            .map(|published| published.name)
            .collect())
    }
}
