use super::*;

#[test]
fn other_units_and_short_start_codes_go() {
    let key = [0, 0, 0, 1, 9, 16, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2, 0, 0, 1, 6, 3];
    let key = [&key[..], &[0, 0, 1, 0x65, 4, 0, 0, 1, 0x65, 5, 0]].concat();
    let whole = |units: &[[u8; 2]]| -> Vec<u8> {
        units.iter().flat_map(|unit| [&START[..], unit].concat()).collect()
    };
    let expected = whole(&[[0x67, 1], [0x68, 2], [0x65, 4], [0x65, 5]]);
    assert_eq!(tidied(&key, true), Ok(expected));
    assert_eq!(tidied(&[0, 0, 1, 0x41, 7], false), Ok(whole(&[[0x41, 7]])));
}

#[test]
fn what_is_no_picture_of_its_kind_is_refused() {
    let of = |kinds: &[u8]| -> Vec<u8> {
        kinds.iter().flat_map(|kind| [0, 0, 1, 0x60 | kind, 9]).collect()
    };
    for (kinds, is_key) in [
        (&[5][..], true),
        (&[7, 5], true),
        (&[8, 7, 5], true),
        (&[7, 8, 1], true),
        (&[7, 8, 5], false),
        (&[5], false),
        (&[6], false),
        (&[], false),
    ] {
        let error = tidied(&of(kinds), is_key).unwrap_err();
        assert!(error.contains("are due"), "{error}");
    }
    assert!(tidied(b"no stream", false).is_err());
}
