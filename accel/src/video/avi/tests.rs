use super::*;
use crate::testing::moving_square;
use crate::video::decode::tests::jpegs;

fn pictures(times_us: &[i64]) -> Vec<(i64, Bytes)> {
    let frame = |(n, pts_us): (usize, &i64)| crate::Frame {
        pts_us: *pts_us,
        ..moving_square(64, 48, n as u64)
    };
    jpegs(&times_us.iter().enumerate().map(frame).collect::<Vec<_>>(), 80)
}

#[test]
fn gaps_repeat_the_picture_before() {
    let pictures = pictures(&[0, 40_000, 80_000, 200_000, 240_000]);
    assert_eq!(period_us(&pictures).unwrap(), 40_000);
    let lens: Vec<bool> =
        slots(&pictures, 40_000).unwrap().iter().map(|slot| slot.is_empty()).collect();
    assert_eq!(lens, [false, false, false, true, true, false, false]);
}

#[test]
fn files_open_in_ffprobe() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.avi");
    write_avi(&path, &pictures(&[5_000, 38_333, 71_666, 105_000])).unwrap();
    let fields = "stream=codec_name,width,height,nb_read_frames,r_frame_rate";
    let probed = std::process::Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-show_entries", fields, "-of", "csv=p=0"])
        .arg(&path)
        .output();
    let Ok(probed) = probed else { return aloud::skipped!("no ffprobe") };
    assert_eq!(String::from_utf8_lossy(&probed.stderr), "");
    let line = String::from_utf8_lossy(&probed.stdout).trim().to_string();
    assert!(line.starts_with("mjpeg,64,48,") && line.ends_with(",4"), "{line}");
}

#[test]
fn one_picture_is_a_film_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.avi");
    write_avi(&path, &pictures(&[7])).unwrap();
    let content = std::fs::read(&path).unwrap();
    let stated = u32::from_le_bytes([content[4], content[5], content[6], content[7]]);
    assert_eq!(stated as usize + 8, content.len());
}

#[test]
fn senseless_input_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.avi");
    let mut later = pictures(&[0, 40_000]);
    for (frames, expected) in [
        (vec![], "the first picture is missing or no JPEG"),
        (vec![(0, Bytes::from_static(b"no jpeg"))], "the first picture is missing or no JPEG"),
        (pictures(&[40_000, 0]), "times go back from 40000 to 0 us"),
        (pictures(&[0, 1, i64::MAX]), "too long at"),
    ] {
        let error = write_avi(&path, &frames).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    later[0].0 = i64::MIN;
    let error = write_avi(&path, &later).unwrap_err();
    assert!(error.to_string().contains("too long at"), "{error}");
    let error = write_avi(dir.path().join("no/such/dir.avi"), &pictures(&[0])).unwrap_err();
    assert!(matches!(error, Error::Media { .. }), "{error}");
}

#[test]
fn sides_are_read_from_the_frame_header() {
    let jpeg = pictures(&[0]).remove(0).1;
    assert_eq!(jpeg_sides(&jpeg), Some((64, 48)));
    for len in 0..jpeg.len().min(200) {
        // No prefix may panic.
        let _ = jpeg_sides(&jpeg[..len]);
    }
    assert_eq!(jpeg_sides(&[0xFF, 0xD8, 0xFF, 0xE0, 0, 0]), None, "a length below two");
}
