//! `rotate map`: a draft of the rotation map.
