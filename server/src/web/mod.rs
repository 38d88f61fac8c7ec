//! The HTTP toolbox: knows no domain.

pub mod assets;
pub mod bars;
pub mod chart;
pub mod conditional;
pub mod diagram;
pub mod errors;
pub mod fewer;
pub mod finish;
pub mod gauge;
pub mod markdown;
pub mod nav;
pub mod page;
pub mod scatter;
pub mod security;
pub mod submitted;
pub mod text_view;
pub mod timeline;
