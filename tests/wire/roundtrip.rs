//! What is encoded is decoded, for each form, over all of its values.

use annals::protocol::wire;
use proptest::prelude::*;

use crate::any::{bases, contents, envelopes, metas, offers};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_envelope_is_read_back(envelope in envelopes()) {
        let mut bytes = vec![0xEE; 3];
        wire::encode(&envelope, &mut bytes);
        prop_assert_eq!(&bytes[..3], [0xEE; 3], "it is appended to what is there");
        prop_assert_eq!(wire::decode(&bytes[3..]), Ok(envelope));
    }

    #[test]
    fn a_control_record_is_read_back(content in contents()) {
        let mut bytes = Vec::new();
        wire::encode_control(&content, &mut bytes);
        prop_assert_eq!(wire::decode_control(&bytes), Ok(content));
    }

    #[test]
    fn a_base_is_read_back(base in bases()) {
        let mut bytes = Vec::new();
        wire::encode_base(&base, &mut bytes);
        prop_assert_eq!(wire::decode_base(&bytes), Ok(base));
    }

    #[test]
    fn a_meta_is_read_back(meta in metas()) {
        let mut bytes = Vec::new();
        wire::encode_meta(&meta, &mut bytes);
        prop_assert_eq!(wire::decode_meta(&bytes), Ok(meta));
    }

    #[test]
    fn an_offer_is_read_back(offer in offers()) {
        let mut bytes = Vec::new();
        wire::encode_offer(&offer, &mut bytes);
        prop_assert_eq!(wire::decode_offer(&bytes), Ok(offer));
    }
}
