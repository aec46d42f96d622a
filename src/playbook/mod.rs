//! Reading, checking and explaining playbooks. Pure: bytes in, model and findings out.
