//! The load: labelers that lease and submit without a pause, through the API or through the pages,
//! and the check that what was acknowledged is in the database, once. The flows' tests use it too.

pub(crate) mod check;
pub(crate) mod http;
pub(crate) mod labelers;
pub(crate) mod page_form;
