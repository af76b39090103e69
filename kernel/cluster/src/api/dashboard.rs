//! The page that shows a cluster while it works.

use std::fmt;

use skep_render::{Bundle, Rich, escape, stream};

use crate::{api::cluster::Cluster, model::error::Result};

/// Where the page is; see [`Cluster::dashboard`].
#[derive(Clone, PartialEq, Eq)]
pub struct Dashboard {
    url: String,
    /// What ran until it was asked for.
    bars: Vec<stream::Bar>,
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
        let url = self.client.dashboard()?;
        let bars = self.client.history()?.newest();
        Ok(Dashboard { url, bars })
    }

    /// The page as a browser reaches it.
    pub(crate) fn dashboard_link(&self) -> Result<String> {
        Ok(Dashboard::at(self.client.dashboard()?).reached())
    }
}

impl Dashboard {
    #[doc(hidden)]
    pub fn at(url: String) -> Dashboard {
        Dashboard {
            url,
            bars: Vec::new(),
        }
    }

    fn reached(&self) -> String {
        reached(&self.url, &std::env::var("SKEP_PORTS_AT").unwrap_or_default())
    }

    /// With the token that lets in who has it.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The page as a browser reaches it: where something brings the ports of this machine to it, by that. `{port}` stands for
/// the port there. A Jupyter server takes `?token=` for its own: behind it ours is a part of the path.
fn reached(url: &str, ports_at: &str) -> String {
    let parts = url
        .strip_prefix("http://127.0.0.1:")
        .and_then(|rest| rest.split_once("/?token="));
    match parts {
        Some((port, token)) if ports_at.contains("{port}") => {
            format!("{}/with/{token}/", ports_at.replace("{port}", port))
        }
        _ => url.to_string(),
    }
}

impl fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl Rich for Dashboard {
    fn bundle(&self) -> Bundle {
        let reached = self.reached();
        let url = escape(&reached);
        let picture = if self.bars.is_empty() {
            String::new()
        } else {
            let picture = stream::bundle(&self.bars);
            format!(
                "<p>What had run when this was asked for:</p>{}",
                picture.get("image/svg+xml").unwrap_or_default()
            )
        };
        // What is inside is shown where the page is not there any more.
        Bundle::text(self.url.clone()).with_html(format!(
            r#"<div><a href="{url}" target="_blank" rel="noopener">The cluster's page</a> (it is there for as long as this notebook runs)<object type="text/html" data="{url}" title="The cluster while it works" style="display:block;width:100%;height:640px;border:1px solid #8a8f98;border-radius:6px;margin-top:6px">{picture}</object></div>"#
        ))
    }
}

#[test]
fn the_page_is_reached_by_what_brings_ports() {
    let url = "http://127.0.0.1:4321/?token=abc";
    assert_eq!(reached(url, ""), url);
    assert_eq!(reached(url, "/proxy/{port}"), "/proxy/4321/with/abc/");
    assert_eq!(
        reached(url, "/user/ann/proxy/{port}"),
        "/user/ann/proxy/4321/with/abc/"
    );
}
