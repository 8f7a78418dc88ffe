use super::*;
use crate::testing::moving_square;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// Everything a reader makes of some bytes.
fn read_all(bytes: &[u8]) -> Result<Vec<Frame>> {
    block_on(async {
        let mut reader = Reader::new(bytes, "cam");
        let mut frames = Vec::new();
        while let Some(frame) = reader.next().await? {
            frames.push(frame);
        }
        Ok(frames)
    })
}

fn messages(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| write_frame(&mut bytes, frame).unwrap());
    write_message(&mut bytes, Header::of_kind(KIND_END), &[]).unwrap();
    bytes
}

#[test]
fn frames_come_through_unchanged() {
    let mut frames: Vec<Frame> = (0..3).map(|n| moving_square(33, 17, n)).collect();
    frames[1].range = Range::Full;
    frames[2].pts_us = -5;
    assert_eq!(read_all(&messages(&frames)).unwrap(), frames);
    assert_eq!(read_all(&messages(&[])).unwrap(), []);
}

#[test]
fn a_pipe_that_ends_anywhere_is_an_error() {
    let bytes = messages(&[moving_square(9, 5, 0)]);
    for len in 0..bytes.len() {
        let error = read_all(&bytes[..len]).unwrap_err();
        assert!(error.to_string().starts_with("video cam: the decoder ended"), "{len}: {error}");
    }
}

#[test]
fn after_an_error_there_is_nothing_more() {
    let frame = messages(&[moving_square(9, 5, 0)]);
    let bytes = [&[0; HEADER_BYTES][..], &frame].concat();
    block_on(async {
        let mut reader = Reader::new(&bytes[..], "cam");
        assert!(reader.next().await.is_err());
        assert_eq!(reader.next().await.unwrap(), None);
    });
}

#[test]
fn a_source_that_falls_silent_is_given_up() {
    let (mut writing, reading) = tokio::io::duplex(1 << 20);
    block_on(async {
        let frame = moving_square(9, 5, 0);
        let mut bytes = messages(std::slice::from_ref(&frame));
        // The end is not told.
        bytes.truncate(bytes.len() - HEADER_BYTES);
        tokio::io::AsyncWriteExt::write_all(&mut writing, &bytes).await.unwrap();
        let silence_max = Duration::from_millis(50);
        let mut reader = Reader { silence_max, ..Reader::new(reading, "cam") };
        assert_eq!(reader.next().await.unwrap(), Some(frame));
        let error = reader.next().await.unwrap_err().to_string();
        assert_eq!(error, "video cam: no frame for 0.05 s");
        assert_eq!(reader.next().await.unwrap(), None);
    });
}

#[test]
fn senseless_headers_are_refused() {
    let good = {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &moving_square(9, 5, 0)).unwrap();
        bytes
    };
    for (at, value, expected) in [
        (0, b'X', "is no frame"),
        (6, 1, "is no frame"),
        (4, 9, "kind 9"),
        (4, KIND_END, "kind 2"),
        (5, 2, "unknown range 2"),
        (11, 0xFF, "each side must be 1 to 16384"),
        (8, 10, "not 80"),
        (35, 0xFF, "bytes, not 75"),
    ] {
        let mut bytes = good.clone();
        bytes[at] = value;
        let error = read_all(&bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "byte {at} = {value}: {error}");
    }
}

#[test]
fn a_child_that_fails_says_why() {
    let mut bytes = Vec::new();
    let error = serve("/no/such/file", &mut bytes).unwrap_err();
    let told = Reader::new(&bytes[..], "/no/such/file");
    let told = block_on(async move { { told }.next().await }).unwrap_err();
    assert_eq!(told, error);
    assert!(told.to_string().starts_with("video /no/such/file: cannot be opened"), "{told}");
}

#[test]
fn a_child_hands_over_a_whole_clip() {
    let frames: Vec<Frame> = (0..4).map(|n| moving_square(160, 90, n)).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.avi");
    let jpegs = crate::video::decode::tests::jpegs(&frames, 90);
    crate::video::write_avi(&path, &jpegs).unwrap();
    let mut bytes = Vec::new();
    serve(path.to_str().unwrap(), &mut bytes).unwrap();
    let back = read_all(&bytes).unwrap();
    let times: Vec<i64> = back.iter().map(|frame| frame.pts_us).collect();
    assert_eq!(times, [0, 40_000, 80_000, 120_000]);
}

#[test]
fn a_reader_that_has_gone_ends_the_child() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.avi");
    let frames = [moving_square(16, 16, 0), moving_square(16, 16, 1)];
    let jpegs = crate::video::decode::tests::jpegs(&frames, 90);
    crate::video::write_avi(&path, &jpegs).unwrap();
    assert_eq!(serve(path.to_str().unwrap(), Gone), Ok(()));
}
