//! The faults of the golden bags, one each.
