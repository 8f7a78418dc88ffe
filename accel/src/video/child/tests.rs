use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use super::*;
use crate::testing::moving_square;
use crate::video::ring;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn rest<R: AsyncRead + Unpin>(reader: &mut Reader<R>) -> Result<Vec<Frame>> {
    let mut frames = Vec::new();
    while let Some(frame) = reader.next().await? {
        frames.push(frame);
    }
    Ok(frames)
}

/// Everything a reader makes of some bytes.
fn read_all(bytes: &[u8]) -> Result<Vec<Frame>> {
    block_on(async { rest(&mut Reader::over(bytes, "cam")).await })
}

/// Everything a reader makes of what a child does, which is a thread.
fn read_from(life: impl FnOnce(Far) + Send + 'static) -> Result<Vec<Frame>> {
    let (near, far) = pair().unwrap();
    let child = thread::spawn(move || life(far));
    let frames = block_on(async { rest(&mut Reader::new(near, "cam").unwrap()).await });
    child.join().unwrap();
    frames
}

fn message(frame: &Frame) -> Vec<u8> {
    let (shape, bytes) = (frame.shape(), frame.data.len());
    let header = Header::of_frame(shape, frame.pts_us, frame.index, bytes);
    [&header.encode()[..], &frame.data].concat()
}

fn end() -> [u8; HEADER_BYTES] {
    Header::of_kind(KIND_END).encode()
}

fn messages(frames: &[Frame]) -> Vec<u8> {
    let mut bytes: Vec<u8> = frames.iter().flat_map(message).collect();
    bytes.extend(end());
    bytes
}

/// A message that names a slot, whatever is in it.
fn slot_message(slot: u16, width: u32, height: u32) -> Vec<u8> {
    let shape = moving_square(width, height, 0).shape();
    let header = Header::of_frame(shape, 0, 0, shape.bytes().unwrap());
    Header { kind: KIND_SLOT, slot, ..header }.encode().to_vec()
}

/// A clip of JPEG pictures.
fn clip(folder: &Path, (width, height): (u32, u32), frames: u64) -> PathBuf {
    let frames: Vec<Frame> = (0..frames).map(|n| moving_square(width, height, n)).collect();
    let path = folder.join(format!("{width}x{height}.avi"));
    let jpegs = crate::video::decode::tests::jpegs(&frames, 90);
    crate::video::write_avi(&path, &jpegs).unwrap();
    path
}

fn decoded(path: &Path) -> Vec<Frame> {
    let mut frames = Vec::new();
    crate::video::decode(path.to_str().unwrap(), |frame| {
        frames.push(frame);
        ControlFlow::Continue(())
    })
    .unwrap();
    frames
}

#[test]
fn frames_come_through_unchanged() {
    let mut frames: Vec<Frame> = (0..3).map(|n| moving_square(33, 17, n)).collect();
    (frames[0].matrix, frames[1].matrix) = (Matrix::Bt601, Matrix::Bt709);
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
        let mut reader = Reader::over(&bytes[..], "cam");
        assert!(reader.next().await.is_err());
        assert_eq!(reader.next().await.unwrap(), None);
    });
}

#[test]
fn a_source_that_falls_silent_is_given_up() {
    let (mut writing, reading) = tokio::io::duplex(1 << 20);
    block_on(async {
        let frame = moving_square(9, 5, 0);
        // The end is not told.
        let bytes = message(&frame);
        tokio::io::AsyncWriteExt::write_all(&mut writing, &bytes).await.unwrap();
        let silence_max = Duration::from_millis(50);
        let mut reader = Reader { silence_max, ..Reader::over(reading, "cam") };
        assert_eq!(reader.next().await.unwrap(), Some(frame));
        let error = reader.next().await.unwrap_err().to_string();
        assert_eq!(error, "video cam: no frame for 0.05 s");
        assert_eq!(reader.next().await.unwrap(), None);
    });
}

#[test]
fn senseless_headers_are_refused() {
    let good = message(&moving_square(9, 5, 0));
    for (at, value, expected) in [
        (0, b'X', "is no frame"),
        (6, 1, "is no frame"),
        (4, 9, "kind 9"),
        (4, KIND_END, "kind 2"),
        (5, 2, "unknown range 2"),
        (5, 0x31, "unknown matrix"),
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
    let told = read_from(|far| {
        let error = serve_over(far, "/no/such/file").unwrap_err().to_string();
        assert!(error.starts_with("video /no/such/file: cannot be opened"), "{error}");
    });
    let told = told.unwrap_err().to_string();
    assert!(told.starts_with("video cam: video /no/such/file: cannot be opened"), "{told}");
}

#[test]
fn a_child_hands_over_a_whole_clip_by_slots_and_by_messages() {
    let folder = tempfile::tempdir().unwrap();
    let path = clip(folder.path(), (161, 91), 10);
    let expected = decoded(&path);
    assert_eq!(expected.len(), 10);
    for by_slots in [true, false] {
        let (near, far) = pair().unwrap();
        let blocks = near.ring.as_ref().unwrap().for_child().unwrap();
        let far = Far { memory: far.memory.filter(|_| by_slots), ..far };
        let path = path.to_str().unwrap().to_owned();
        let child = thread::spawn(move || serve_over(far, &path));
        let back = block_on(async { rest(&mut Reader::new(near, "cam").unwrap()).await });
        assert!(back.unwrap() == expected, "by slots: {by_slots}");
        assert_eq!(child.join().unwrap(), Ok(()));
        let bytes = 512 * File::from(blocks).metadata().unwrap().blocks() as usize;
        let most = SLOTS_MAX * expected[0].data.len().next_multiple_of(4096);
        assert_eq!((1..=most).contains(&bytes), by_slots, "{bytes} bytes are shared");
    }
}

#[test]
fn frames_of_changing_size_do_not_lie_across_each_other() {
    let life = |far: Far| {
        let mut out = Sender::new(far);
        for n in 0..60u32 {
            let side = 16 + n / 4 % 3 * 40;
            let bytes = (side * side * 3 / 2) as usize;
            let slot = out.free_slot(bytes).unwrap().unwrap();
            out.memory.as_mut().unwrap().slot(slot, bytes).unwrap().fill(n as u8);
            out.taken[slot] = true;
            out.line.write_all(&slot_message(slot as u16, side, side)).unwrap();
        }
        out.message(Header::of_kind(KIND_END), &[]).unwrap();
    };
    let frames = read_from(life).unwrap();
    assert_eq!(frames.len(), 60);
    for (n, frame) in frames.iter().enumerate() {
        assert!(frame.data.iter().all(|byte| usize::from(*byte) == n), "frame {n}");
    }
}

/// What a child says that nobody should believe.
#[test]
fn slots_that_are_not_there_are_refused() {
    for (said, expected) in [
        (slot_message(3, 64, 64), "there is no slot 3 of 6144 bytes"),
        (slot_message(u16::MAX, 64, 64), "there is no slot 65535"),
        (slot_message(1, 6000, 6000), "there is no slot 1 of 54000000 bytes"),
        (slot_message(0, 16384, 16384), "there is no slot 0 of 402653184 bytes"),
        ([&slot_message(0, 64, 64)[..32], &[9, 0, 0, 0]].concat(), "with 9 bytes, not 6144"),
        ([&message(&moving_square(9, 5, 0))[..6], &[1; 30]].concat(), "is no frame"),
    ] {
        let error = read_from(move |far| File::from(far.line).write_all(&said).unwrap());
        let error = error.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = read_all(&slot_message(0, 64, 64)).unwrap_err().to_string();
    assert!(error.contains("a slot of no memory"), "{error}");
}

#[test]
fn slots_with_nothing_in_them_or_named_twice_are_frames_all_the_same() {
    let said = [slot_message(2, 64, 64), slot_message(2, 64, 64), end().to_vec()].concat();
    let frames = read_from(move |far| File::from(far.line).write_all(&said).unwrap()).unwrap();
    assert_eq!(frames.len(), 2);
    assert!(frames.iter().all(|frame| frame.data.iter().all(|byte| *byte == 0)));
}

#[test]
fn a_child_that_takes_no_slot_back_is_given_up() {
    let error = read_from(|far| {
        let (mut line, said) = (File::from(far.line), slot_message(0, 2, 2));
        while line.write_all(&said).is_ok() {}
    });
    let error = error.unwrap_err().to_string();
    assert_eq!(error, "video cam: the decoder takes none of its slots back");
}

/// Whatever the child writes meanwhile, each byte is one of those that it wrote.
#[test]
fn a_child_that_writes_while_it_is_read_changes_what_is_seen_and_nothing_else() {
    let frames = read_from(|far| {
        let mut memory = Mapped::of(far.memory.unwrap()).unwrap();
        let mut line = File::from(far.line);
        let mut value = 0u8;
        for _ in 0..200 {
            line.write_all(&slot_message(0, 320, 240)).unwrap();
            let mut back = [0];
            line.read_exact(&mut back).unwrap();
            for _ in 0..3 {
                value ^= 0xFF;
                memory.slot(0, 320 * 360).unwrap().fill(value);
            }
        }
        line.write_all(&end()).unwrap();
    });
    let frames = frames.unwrap();
    assert_eq!(frames.len(), 200);
    assert!(frames.iter().all(|frame| frame.data.iter().all(|byte| matches!(byte, 0 | 0xFF))));
}

#[test]
fn a_child_that_dies_anywhere_leaves_nothing_behind() {
    let whole = [slot_message(0, 64, 64), message(&moving_square(9, 5, 0))].concat();
    for len in 0..whole.len() {
        let (near, far) = pair().unwrap();
        let inode = near.ring.as_ref().unwrap().inode();
        assert_eq!(ring::tests::traces(inode), 3);
        let mut line = File::from(far.line);
        line.write_all(&whole[..len]).unwrap();
        drop((line, far.memory));
        let frames = block_on(async {
            let mut reader = Reader::new(near, "cam").unwrap();
            let mut frames = 0;
            loop {
                match reader.next().await {
                    Ok(Some(_)) => frames += 1,
                    Ok(None) => panic!("{len}: it did not say that it ended"),
                    Err(error) => break assert!(error.to_string().contains("the decoder ended")),
                }
            }
            assert_eq!(reader.next().await, Ok(None));
            frames
        });
        assert_eq!(frames, usize::from(len >= HEADER_BYTES), "{len}");
        assert_eq!(ring::tests::traces(inode), 0, "{len}");
    }
}

#[test]
fn a_slow_reader_holds_the_child_back_and_one_that_goes_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = clip(folder.path(), (64, 48), 12);
    let path = path.to_str().unwrap().to_owned();
    let (near, far) = pair().unwrap();
    let inode = near.ring.as_ref().unwrap().inode();
    let child = thread::spawn(move || serve_over(far, &path));
    block_on(async {
        let mut reader = Reader::new(near, "cam").unwrap();
        let mut kept = Vec::new();
        for _ in 0..4 {
            kept.push(reader.next().await.unwrap().unwrap());
            thread::sleep(Duration::from_millis(20));
        }
        assert!(!child.is_finished(), "it waits for a slot");
        let indexes: Vec<u64> = kept.iter().map(|frame| frame.index).collect();
        assert_eq!(indexes, [0, 1, 2, 3]);
        // Frames outlive the way they came by.
        drop(reader);
        assert_eq!(child.join().unwrap(), Ok(()));
        assert_eq!(ring::tests::traces(inode), 0);
        assert!(kept.windows(2).all(|pair| pair[0].data != pair[1].data));
    });
}

/// Messages and slots bent at random, with a good one before and after.
#[test]
fn bent_messages_never_do_more_than_end_a_stream() {
    let whole: Vec<Vec<u8>> = (0..3)
        .map(|slot| slot_message(slot, 18, 10))
        .chain([message(&moving_square(9, 5, 0))])
        .collect();
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut roll = |end: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % end
    };
    for round in 0..600 {
        let mut said = whole.concat();
        for _ in 0..1 + roll(3) {
            let at = roll(said.len());
            said[at] = [0, 1, 3, 4, 0x7F, 0xFF, roll(256) as u8][roll(7)];
        }
        let len = said.len() - roll(2) * roll(said.len());
        let (near, far) = pair().unwrap();
        let mut line = File::from(far.line);
        line.write_all(&said[..len]).unwrap();
        drop(line);
        let told = block_on(async { rest(&mut Reader::new(near, "cam").unwrap()).await });
        match told {
            Ok(frames) => assert!(frames.len() <= 4, "round {round}"),
            Err(error) => assert!(matches!(error, Error::Media { .. }), "round {round}: {error}"),
        }
    }
}
