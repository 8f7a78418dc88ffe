use super::*;

/// Each is done once.
const ONCE: Duration = Duration::ZERO;

fn tools() -> std::path::PathBuf {
    let near = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools");
    std::env::var_os("EDGESCALE_TOOLS").map_or(near, std::path::PathBuf::from)
}

/// Within a runtime, as the program has one.
#[tokio::test]
async fn every_pair_has_a_plan_that_runs() {
    let pictures = Pictures::new(64, 48).unwrap();
    for pair in PAIRS {
        let us = ours_us(pair, &pictures, ONCE).unwrap();
        assert!(us > 0.0, "{}", pair.name);
        assert!(pair.cases.iter().any(|case| !case.is_empty()), "{}", pair.name);
    }
}

/// What a peer is asked, it has.
#[test]
fn who_is_here_does_what_it_is_asked() {
    let pictures = Pictures::new(64, 48).unwrap();
    for peer in Peer::ALL {
        let times = match peer.ask(PAIRS, &pictures, ONCE, &tools()) {
            Ok(times) => times,
            Err(error) => {
                aloud::skipped!("{}: {error}", peer.name());
                continue;
            }
        };
        for (pair, us) in PAIRS.iter().zip(times) {
            let is_asked = !pair.cases[peer as usize].is_empty();
            assert_eq!(us.is_some_and(|us| us > 0.0), is_asked, "{} by {peer:?}", pair.name);
        }
    }
}

#[test]
fn without_others_there_are_no_rows_and_the_reason_is_told() {
    let nowhere = tempfile::tempdir().unwrap();
    assert_eq!(compare(nowhere.path(), (64, 48), ONCE), Ok(Vec::new()));
    let pictures = Pictures::new(4, 2).unwrap();
    let error = Peer::OpenCv.ask(PAIRS, &pictures, ONCE, nowhere.path()).unwrap_err();
    assert!(error.contains("bin/python3: "), "{error}");
}

#[test]
fn pictures_are_as_large_as_their_formats() {
    let pictures = Pictures::new(6, 4).unwrap();
    for format in [PixelFormat::Gray8, PixelFormat::Nv12, PixelFormat::Rgb24, PixelFormat::Uyvy] {
        let bytes = Shape::limited(6, 4, format).bytes();
        assert_eq!(Some(pictures.frame(format).len()), bytes, "{format:?}");
    }
    assert_eq!(pictures.gray[0][..20], pictures.gray[1][3..23]);
}
