//! OCI layouts on disk: reading one as a source of images, and writing small ones.

mod reader;
mod writer;

pub(crate) use reader::Layout;
pub use writer::{LayoutError, LayoutWriter};
