//! Writing and reviewing in a real Chromium.
