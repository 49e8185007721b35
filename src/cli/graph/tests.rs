//! What pictures look like.
