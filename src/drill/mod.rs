//! Rehearsing a playbook against the sim world and scoring it.
