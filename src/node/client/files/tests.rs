use super::*;

#[test]
fn pages_have_about_as_many_bytes_whatever_their_rows() {
    assert_eq!(rows_next(1_000, PAGE_BYTES), 1_000);
    assert_eq!(rows_next(1_000, 64_000), 65_536);
    assert_eq!(rows_next(1_000, 1_000), PAGE_ROWS_MAX, "rows may be small");
    assert_eq!(rows_next(1_000, 0), PAGE_ROWS_MAX);
    assert_eq!(rows_next(2, 16 * PAGE_BYTES), 1, "or large");
}
