use super::*;

#[test]
fn items_are_where_they_were_put() {
    let mut list = List::default();
    for i in 0..3 * CHUNK_ITEMS + 5 {
        assert_eq!(list.len(), i);
        list.push(i);
    }
    assert!((0..list.len()).all(|i| *list.get(i) == i));
    *list.get_mut(CHUNK_ITEMS) = 7;
    assert_eq!(list.iter().filter(|item| **item == 7).count(), 2);
    assert_eq!(list.iter().count(), list.len());
}

/// Stretches of all lengths, some of which replace others, some of which are refused.
#[test]
fn bytes_stay_where_they_are() {
    let (mut bytes, mut kept): (Bytes, Vec<(Span, Vec<u8>)>) = Default::default();
    let mut all = 0;
    for i in 0..4_000_usize {
        let len = if i % 500 == 499 { 3 * CHUNK_BYTES_MAX / 2 } else { i * 7 % 1_500 };
        let text = vec![i as u8; len];
        assert!(
            bytes
                .write(len, |out| {
                    out.extend(&text);
                    false
                })
                .is_none()
        );
        let span = bytes.keep(&text);
        match kept.iter_mut().rev().find(|(old, _)| old.len() == len && i % 3 == 0) {
            Some((old, before)) => {
                bytes.replace(*old, span);
                *before = text;
            }
            None => {
                all += len;
                kept.push((span, text));
            }
        }
        assert_eq!(bytes.len(), all);
    }
    assert!(kept.iter().all(|(span, text)| bytes.get(*span) == text));
    // One vector would take no less when it has grown.
    let room: usize = bytes.chunks.iter().map(Vec::capacity).sum();
    assert!(room < all * 2 + CHUNK_BYTES_MAX, "{room} bytes for {all}");
}
