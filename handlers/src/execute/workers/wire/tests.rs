//! Whatever comes, reading ends.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn read_all(bytes: &[u8]) -> Vec<io::Result<(Word, Bytes)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut from, mut read) = (bytes, Vec::new());
        while let Some(next) = receive::<Word>(&mut from).await.transpose() {
            let is_end = next.is_err();
            read.push(next);
            if is_end {
                break;
            }
        }
        read
    })
}

fn ask(number: u64, body: &[u8]) -> Vec<u8> {
    let word = Word::Ask { number, ask: 7, question: Question::Call { name: "x".into() } };
    let mut frame = encode(&word, body).unwrap();
    frame.extend_from_slice(body);
    frame
}

proptest! {
    #[test]
    fn any_bytes_are_frames_or_an_error(bytes in vec(any::<u8>(), 0..4096)) {
        read_all(&bytes);
    }

    #[test]
    fn a_frame_that_was_bent_does_no_harm(
        body in vec(any::<u8>(), 0..64),
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let mut frame = [ask(1, &body), ask(2, &body)].concat();
        let at = at.index(frame.len());
        frame[at] = to;
        read_all(&frame);
    }

    #[test]
    fn frames_come_as_they_were_sent(bodies in vec(vec(any::<u8>(), 0..512), 0..8)) {
        let frames: Vec<Vec<u8>> = bodies.iter().map(|body| ask(body.len() as u64, body)).collect();
        let read = read_all(&frames.concat());
        prop_assert_eq!(read.len(), bodies.len());
        for (read, sent) in read.into_iter().zip(bodies) {
            let (word, body) = read.unwrap();
            let Word::Ask { number, ask: 7, .. } = word else { panic!("another word") };
            prop_assert_eq!(number, sent.len() as u64);
            prop_assert_eq!(&body[..], &sent[..]);
        }
    }

    #[test]
    fn half_a_frame_is_an_error(
        body in vec(any::<u8>(), 1..64),
        cut in any::<prop::sample::Index>(),
    ) {
        let frame = ask(1, &body);
        let cut = 1 + cut.index(frame.len() - 1);
        let read = read_all(&frame[..cut]);
        prop_assert!(read.len() == 1 && read[0].is_err());
    }
}

#[test]
fn lengths_that_nobody_sends_are_refused_before_memory_is_taken() {
    for (head, body) in [(u32::MAX, 0), (2, u32::MAX), (HEAD_BYTES_MAX as u32 + 1, 0)] {
        let mut frame = [head.to_le_bytes(), body.to_le_bytes()].concat();
        frame.extend_from_slice(b"{}");
        let read = read_all(&frame);
        let error = read[0].as_ref().err().unwrap().to_string();
        assert!(error.contains("in one part"), "{error}");
    }
    assert!(encode(&"x".repeat(HEAD_BYTES_MAX), &[]).is_err());
}
