#![doc = include_str!("../README.md")]
#![expect(missing_docs, reason = "the messages are documented in proto/, and prost copies what stands there")]

include!(concat!(env!("OUT_DIR"), "/events.rs"));
include!(concat!(env!("OUT_DIR"), "/impls.rs"));
