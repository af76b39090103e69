use crate::Bundle;

/// A value that knows how to show itself in a notebook and in a terminal.
///
/// ```
/// use skep_render::{Bundle, Rich};
/// struct Celsius(f64);
/// impl Rich for Celsius {
///     fn bundle(&self) -> Bundle {
///         Bundle::text(format!("{} °C", self.0)).with_html(format!("<b>{}</b> °C", self.0))
///     }
/// }
/// assert_eq!(Celsius(21.5).bundle().plain(), "21.5 °C");
/// ```
pub trait Rich {
    fn bundle(&self) -> Bundle;
}

impl<T: Rich + ?Sized> Rich for &T {
    fn bundle(&self) -> Bundle {
        (**self).bundle()
    }
}

impl Rich for Bundle {
    fn bundle(&self) -> Bundle {
        self.clone()
    }
}

impl Rich for crate::graph::Graph {
    fn bundle(&self) -> Bundle {
        crate::graph::Graph::bundle(self)
    }
}
