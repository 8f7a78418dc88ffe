use super::*;

/// Every place that a track has in an area.
fn places(track: &Track, area: Area) -> Vec<i64> {
    let half = |at: u32, halved: bool| i64::from(if halved { at / 2 } else { at });
    let place = |x: u32, y: u32| {
        let (x, y) = (half(x, track.halved[0]), half(y, track.halved[1]));
        i64::from(track.offset) + y * i64::from(track.stride) + x * i64::from(track.step)
    };
    (0..area.height).flat_map(|y| (0..area.width).map(move |x| place(x, y))).collect()
}

fn tracks() -> Vec<Track> {
    let mut all = Vec::new();
    for offset in [0, 1, 2, 40, 41] {
        for stride in [7, 12, 15, -12] {
            for step in [1, 2, 3, -1] {
                for halved in [[false, false], [true, false], [true, true]] {
                    all.push(Track { offset: 100 + offset, stride, step, halved });
                }
            }
        }
    }
    all
}

#[test]
fn tracks_that_are_called_apart_share_no_byte() {
    for area in [(5, 3), (1, 1), (4, 1), (1, 4)].map(|(w, h)| Area::rows(w, h)) {
        let tracks = tracks();
        let (mut apart, mut met) = (0, 0);
        for a in &tracks {
            let own = places(a, area);
            let range = own.iter().min().copied().unwrap()..=own.iter().max().copied().unwrap();
            assert_eq!(a.range(area), range, "{a:?} in {area:?}");
            for b in &tracks {
                let shares = places(b, area).iter().any(|place| own.contains(place));
                assert!(!(a.is_apart(b, area) && shares), "{a:?} and {b:?} in {area:?}");
                apart += usize::from(a.is_apart(b, area));
                met += usize::from(shares);
            }
        }
        assert!(apart > 100 && met > 100, "{apart} and {met} in {area:?}");
    }
    let rgb = |byte| Track::spread(byte, 15, 3);
    assert!(rgb(0).is_apart(&rgb(2), Area::rows(5, 3)), "red and blue");
}

#[test]
fn bytes_of_pixels_are_as_many_tracks_over_pixels() {
    let to = (1, Track::bytes(4, 16));
    let from = Operand::Sample(0, Track::bytes(2, 20));
    let work = Work { area: Area::rows(15, 4), assigns: vec![Assign::copy(to, from)] };
    let over = work.over(Area::rows(5, 4)).unwrap();
    assert_eq!(over.assigns.len(), 3);
    let mut all: Vec<i64> =
        over.assigns.iter().flat_map(|assign| places(&assign.to.1, over.area)).collect();
    all.sort();
    let mut wanted = places(&to.1, work.area);
    wanted.sort();
    assert_eq!(all, wanted);
    for area in [Area::rows(4, 4), Area::rows(15, 2), Area::rows(2, 4), Area::flat(60)] {
        assert_eq!(work.over(area), None, "{area:?}");
    }
    let chroma = Track { halved: [true, false], ..to.1 };
    let halved = Work { assigns: vec![Assign::copy((1, chroma), from)], ..work };
    assert_eq!(halved.over(Area::rows(5, 4)), None, "halves of bytes are no halves of pixels");
}

#[test]
fn what_is_flat_has_rows_of_any_length() {
    let track = Track::bytes(0, 0);
    let assigns = vec![Assign::copy((1, track), Operand::Sample(0, track))];
    let work = Work { area: Area::flat(60), assigns };
    for (area, parts) in [(Area::rows(12, 5), 1), (Area::rows(5, 4), 3)] {
        let over = work.over(area).unwrap();
        assert_eq!(over.assigns.len(), parts);
        let mut all: Vec<i64> =
            over.assigns.iter().flat_map(|assign| places(&assign.to.1, area)).collect();
        all.sort();
        assert_eq!(all, (0..60).collect::<Vec<i64>>(), "{area:?}");
    }
    assert_eq!(work.over(Area::rows(7, 4)), None);
    assert_eq!(work.over(Area::flat(30)), None);
}

#[test]
fn functions_are_found_whole() {
    let source = "FN int a(int x)\n{\n    return x;\n}\n\nFN int b_of(int x)\n{\n    { }\n}\nrest";
    assert_eq!(function_text(source, "b_of"), Some("FN int b_of(int x)\n{\n    { }\n}\n"));
    assert_eq!(function_text(source, "b"), None);
    let kernel = "KERNEL void a(int x)\n{\n}\n";
    assert_eq!(function_text(&format!("// a(\n{kernel}\n"), "a"), Some(kernel));
    assert_eq!(function_text("void a(int x)\n{\n}\n", "a"), None);
}
