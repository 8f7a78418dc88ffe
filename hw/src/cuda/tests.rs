use super::*;
use crate::conformance;

#[test]
fn conforms() {
    let found = discover(&Config::default());
    if found.is_empty() {
        aloud::skipped!("no CUDA device");
    }
    found.iter().for_each(|device| conformance::check(device));
}
