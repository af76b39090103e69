//! The page that shows a cluster while it works.

use std::fmt;

use skep_render::{Bundle, Rich, escape};

use crate::{api::cluster::Cluster, model::error::Result};

/// Where the page is; see [`Cluster::dashboard`].
#[derive(Clone, PartialEq, Eq)]
pub struct Dashboard {
    url: String,
}

impl Cluster {
    /// Opens the page that shows this cluster while it works: task stream, progress, workers with their memory, logs, the
    /// journey of each task. In Jupyter it is shown below the cell, and the link opens it beside the notebook.
    ///
    /// ```no_run
    /// # let cluster = skep_cluster::Cluster::local().start()?;
    /// println!("{}", cluster.dashboard()?.url());
    /// # Ok::<(), skep_cluster::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the cluster is not one of a notebook or of the terminal, the scheduler is gone, or no port is free.
    pub fn dashboard(&self) -> Result<Dashboard> {
        Ok(Dashboard::at(self.client.dashboard()?))
    }
}

impl Dashboard {
    #[doc(hidden)]
    pub fn at(url: String) -> Dashboard {
        Dashboard { url }
    }

    /// With the token that lets in who has it.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl Rich for Dashboard {
    fn bundle(&self) -> Bundle {
        let url = escape(&self.url);
        Bundle::text(self.url.clone()).with_html(format!(
            r#"<div><a href="{url}" target="_blank" rel="noopener">The cluster's page</a> (it is there for as long as this notebook runs)<iframe src="{url}" title="The cluster while it works" style="display:block;width:100%;height:640px;border:1px solid #8a8f98;border-radius:6px;margin-top:6px"></iframe></div>"#
        ))
    }
}
