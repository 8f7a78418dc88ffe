//! What each instruction gives, against values that were worked out by hand from the manual of PTX
//! and, for plain arithmetic, against Rust's own.

use super::*;

/// The result, `to` bits wide, of an instruction over operands with their widths in bits.
fn result(opcode: &str, to: u32, operands: &[(u32, u64)]) -> u64 {
    let mut body = String::new();
    let mut names = vec![register(to, 0)];
    for (number, (bits, value)) in operands.iter().enumerate() {
        let name = register(*bits, number + 1);
        body += &format!("mov.b{bits} {name}, {value:#x};\n");
        names.push(name);
    }
    body += &format!("{opcode} {};\n", names.join(", "));
    body += &format!("st.global.b{to} [%rd0], {};", names[0]);
    let given = [Given::Buffer(Param::InOut("out"), &[0; 8])];
    let got = launched(&text("", &body), threads(1, 1), &given);
    let got = got.unwrap_or_else(|error| panic!("{error}\n{body}"));
    u64::from_le_bytes(got[0][..].try_into().unwrap())
}

/// `%rd0` and `%r0` are taken.
fn register(bits: u32, number: usize) -> String {
    let letters = match bits {
        16 => "rs",
        32 => "r",
        _ => "rd",
    };
    format!("%{letters}{}", number + 1)
}

fn check(opcode: &str, to: u32, operands: &[(u32, u64)], expected: u64) {
    let got = result(opcode, to, operands);
    assert_eq!(got, expected, "{opcode} {operands:x?}: {got:#x} for {expected:#x}");
}

/// All operands and the result have 32 bits.
fn check_words(opcode: &str, operands: &[u32], expected: u32) {
    let operands: Vec<_> = operands.iter().map(|value| (32, u64::from(*value))).collect();
    check(opcode, 32, &operands, expected.into());
}

const EDGES: [u32; 10] =
    [0, 1, 2, 7, 0x7F, 0x8000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FF80, 0xFFFF_FFFF];

/// An opcode of 32 bits, and the same in Rust; `None` where the result is not laid down.
type Known = (&'static str, fn(u32, u32) -> Option<u32>);

#[test]
fn arithmetic_of_words_is_rusts() {
    let known: [Known; 24] = [
        ("add.s32", |a, b| Some(a.wrapping_add(b))),
        ("sub.u32", |a, b| Some(a.wrapping_sub(b))),
        ("mul.lo.s32", |a, b| Some(a.wrapping_mul(b))),
        ("mul.hi.u32", |a, b| Some(((u64::from(a) * u64::from(b)) >> 32) as u32)),
        ("mul.hi.s32", |a, b| Some(((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32)),
        ("div.u32", u32::checked_div),
        ("rem.u32", u32::checked_rem),
        ("div.s32", |a, b| (b != 0).then(|| (a as i32).wrapping_div(b as i32) as u32)),
        ("rem.s32", |a, b| (b != 0).then(|| (a as i32).wrapping_rem(b as i32) as u32)),
        ("min.s32", |a, b| Some((a as i32).min(b as i32) as u32)),
        ("max.s32", |a, b| Some((a as i32).max(b as i32) as u32)),
        ("min.u32", |a, b| Some(a.min(b))),
        ("max.u32", |a, b| Some(a.max(b))),
        ("and.b32", |a, b| Some(a & b)),
        ("or.b32", |a, b| Some(a | b)),
        ("xor.b32", |a, b| Some(a ^ b)),
        ("shl.b32", |a, b| Some(a.checked_shl(b).unwrap_or(0))),
        ("shr.u32", |a, b| Some(a.checked_shr(b).unwrap_or(0))),
        ("shr.s32", |a, b| Some(((a as i32) >> b.min(31)) as u32)),
        ("add.sat.s32", |a, b| Some((a as i32).saturating_add(b as i32) as u32)),
        ("sub.sat.s32", |a, b| Some((a as i32).saturating_sub(b as i32) as u32)),
        ("add.rn.f32", |a, b| single(f32::from_bits(a) + f32::from_bits(b))),
        ("mul.rn.f32", |a, b| single(f32::from_bits(a) * f32::from_bits(b))),
        ("div.rn.f32", |a, b| single(f32::from_bits(a) / f32::from_bits(b))),
    ];
    for (opcode, of) in known {
        for (a, b) in EDGES.iter().flat_map(|a| EDGES.map(|b| (*a, b))) {
            if let Some(expected) = of(a, b) {
                check_words(opcode, &[a, b], expected);
            }
        }
    }
}

fn single(value: f32) -> Option<u32> {
    Some(if value.is_nan() { 0x7FFF_FFFF } else { value.to_bits() })
}

#[test]
fn narrow_and_wide_integers() {
    check("add.s16", 16, &[(16, 0xFFFF), (16, 2)], 1);
    check("sub.s16", 16, &[(16, 1), (16, 3)], 0xFFFE);
    check("mul.lo.s16", 16, &[(16, 0x1234), (16, 0x100)], 0x3400);
    check("mul.wide.u16", 32, &[(16, 0xFFFF), (16, 0xFFFF)], 0xFFFE_0001);
    check("mul.wide.s16", 32, &[(16, 0xFFFF), (16, 2)], 0xFFFF_FFFE);
    check("mul.wide.u32", 64, &[(32, 0xFFFF_FFFF), (32, 0xFFFF_FFFF)], 0xFFFF_FFFE_0000_0001);
    check("mul.wide.s32", 64, &[(32, 0xFFFF_FFFF), (32, 3)], 0xFFFF_FFFF_FFFF_FFFD);
    check("mad.wide.s32", 64, &[(32, 0xFFFF_FFFF), (32, 3), (64, 5)], 2);
    check("mad.wide.u16", 32, &[(16, 0xFFFF), (16, 0xFFFF), (32, 0x1FFFF)], 0);
    check("mad.lo.s32", 32, &[(32, 0x10001), (32, 0x10001), (32, 5)], 0x2_0006);
    check("mad.hi.u32", 32, &[(32, 0x8000_0000), (32, 6), (32, 1)], 4);
    check_words("mad.hi.sat.s32", &[0x7FFF_FFFF, 0x7FFF_FFFF, 0x7000_0000], 0x7FFF_FFFF);
    check("mul.hi.u64", 64, &[(64, 1 << 63), (64, 6)], 3);
    check("mul.hi.s64", 64, &[(64, u64::MAX), (64, 6)], u64::MAX);
    check("shr.s64", 64, &[(64, 1 << 63), (32, 200)], u64::MAX);
    check("shl.b64", 64, &[(64, 3), (32, 63)], 1 << 63);
    check("shr.u16", 16, &[(16, 0x8000), (32, 15)], 1);
    check("abs.s32", 32, &[(32, 0x8000_0000)], 0x8000_0000);
    check("neg.s16", 16, &[(16, 1)], 0xFFFF);
    check("not.b16", 16, &[(16, 0x00FF)], 0xFF00);
    check("cnot.b32", 32, &[(32, 0)], 1);
    check_words("sad.s32", &[0xFFFF_FFFF, 4, 10], 15);
    check_words("sad.u32", &[0xFFFF_FFFF, 4, 10], 5);
    check_words("mul24.lo.u32", &[0xFF00_0003, 0x0010_0000], 0x0030_0000);
    check_words("mul24.lo.s32", &[0x00FF_FFFF, 5], 0xFFFF_FFFB);
}

#[test]
fn bits_and_bytes() {
    check_words("popc.b32", &[0xF0F0_0001], 9);
    check("popc.b64", 32, &[(64, u64::MAX)], 64);
    check_words("clz.b32", &[1], 31);
    check_words("clz.b32", &[0], 32);
    check("clz.b64", 32, &[(64, 1)], 63);
    check_words("brev.b32", &[0x8000_0001], 0x8000_0001);
    check_words("brev.b32", &[6], 0x6000_0000);
    check_words("bfind.u32", &[0], 0xFFFF_FFFF);
    check_words("bfind.u32", &[0x10], 4);
    check_words("bfind.s32", &[0xFFFF_FFEF], 4);
    check_words("bfind.s32", &[0xFFFF_FFFF], 0xFFFF_FFFF);
    check_words("bfe.u32", &[0xABCD_1234, 8, 12], 0xD12);
    check_words("bfe.u32", &[0xABCD_1234, 28, 12], 0xA);
    check_words("bfe.u32", &[0xABCD_1234, 40, 12], 0);
    check_words("bfe.u32", &[0xABCD_1234, 4, 0], 0);
    check_words("bfe.s32", &[0x0000_0F00, 8, 4], 0xFFFF_FFFF);
    check_words("bfe.s32", &[0x0000_0700, 8, 4], 7);
    check_words("bfe.s32", &[0x8000_0000, 28, 12], 0xFFFF_FFF8);
    check_words("bfe.s32", &[0x8000_0000, 40, 12], 0xFFFF_FFFF);
    check_words("bfe.s32", &[0x8000_0000, 31, 0], 0);
    check_words("bfi.b32", &[0xFF, 0x1111_1111, 4, 8], 0x1111_1FF1);
    check_words("bfi.b32", &[0xFF, 0x1111_1111, 28, 8], 0xF111_1111);
    check_words("bfi.b32", &[0xFF, 0x1111_1111, 32, 8], 0x1111_1111);
    check_words("bfi.b32", &[0xFF, 0x1111_1111, 4, 0], 0x1111_1111);
    check_words("prmt.b32", &[0x3322_1100, 0x7766_5544, 0x7531], 0x7755_3311);
    check_words("prmt.b32", &[0x3322_8000, 0x7766_5544, 0x9810], 0xFF00_8000);
    check_words("lop3.b32", &[0xFF00_FF00, 0xF0F0_F0F0, 0xCCCC_CCCC, 0x96], 0xC33C_C33C);
    check_words("lop3.b32", &[0xFF00_FF00, 0xF0F0_F0F0, 0xCCCC_CCCC, 0xE8], 0xFCC0_FCC0);
    check_words("shf.l.wrap.b32", &[0x8765_4321, 0x1234_5678, 36], 0x2345_6788);
    check_words("shf.r.wrap.b32", &[0x8765_4321, 0x1234_5678, 36], 0x8876_5432);
    check_words("shf.l.clamp.b32", &[0x8765_4321, 0x1234_5678, 36], 0x8765_4321);
    check_words("shf.r.clamp.b32", &[0x8765_4321, 0x1234_5678, 36], 0x1234_5678);
    check_words("slct.b32.s32", &[1, 2, 0x8000_0000], 2);
}

#[test]
fn products_of_bytes() {
    check_words("dp4a.u32.u32", &[0xFF01_0203, 0x0201_0304, 5], 255 * 2 + 1 + 6 + 12 + 5);
    check_words("dp4a.s32.s32", &[0xFF01_0203, 0x0201_0304, 5], 22);
    check_words("dp4a.s32.u32", &[0x8000_0000, 0xFF00_0000, 0], (-128i32 * 255) as u32);
    check_words("dp4a.u32.s32", &[0xFF00_0000, 0x8000_0000, 1], (-128i32 * 255 + 1) as u32);
    check_words("dp4a.u32.u32", &[0x0000_0001, 1, 0xFFFF_FFFF], 0);
    check_words("dp2a.lo.u32.u32", &[0xFFFF_0002, 0x0505_0304, 1], 65535 * 3 + 8 + 1);
    check_words("dp2a.hi.u32.u32", &[0xFFFF_0002, 0x0506_0304, 1], 65535 * 5 + 12 + 1);
    check_words("dp2a.lo.s32.s32", &[0xFFFF_0002, 0x0000_FF04, 0], 9);
    check_words("vabsdiff4.u32.u32.u32", &[0x0A00_FF10, 0x0CFF_0010, 9], 0x02FF_FF00);
    check_words("vabsdiff4.u32.u32.u32.add", &[0x0A00_FF10, 0x0CFF_0010, 9], 2 + 255 + 255 + 9);
    check_words("vabsdiff4.u32.s32.s32", &[0x80FF_0000, 0x7F01_0000, 0], 0xFF02_0000);
    check_words("vadd4.u32.u32.u32", &[0xFF01_FF80, 0x0201_0180, 0], 0x0102_0000);
    check_words("vadd4.u32.u32.u32.sat", &[0xFF01_FF80, 0x0201_0180, 0], 0xFF02_FFFF);
    check_words("vsub4.s32.s32.s32.sat", &[0x8001_0000, 0x0102_0000, 0], 0x80FF_0000);
    check_words("vavrg4.u32.u32.u32", &[0x0100_FFFF, 0x0201_FE00, 0], 0x0201_FF80);
    check_words("vmin4.u32.u32.u32", &[0xFF01_0203, 0x0102_0300, 0], 0x0101_0200);
    check_words("vmax4.s32.s32.s32", &[0xFF01_0203, 0x0102_0300, 0], 0x0102_0303);
    check_words("vadd2.u32.u32.u32.sat", &[0xFFFF_0001, 0x0002_0002, 0], 0xFFFF_0003);
}

#[test]
fn conversions_of_integers() {
    check("cvt.u32.u8", 32, &[(32, 0x1234)], 0x34);
    check("cvt.s32.s8", 32, &[(32, 0x1280)], 0xFFFF_FF80);
    check("cvt.s64.s32", 64, &[(32, 0x8000_0000)], 0xFFFF_FFFF_8000_0000);
    check("cvt.u64.u32", 64, &[(32, 0x8000_0000)], 0x8000_0000);
    check("cvt.u16.u32", 16, &[(32, 0x1_2345)], 0x2345);
    check("cvt.s16.s8", 16, &[(16, 0x80)], 0xFF80);
    // A type narrower than the register fills it with its sign.
    check("cvt.s8.s32", 32, &[(32, 0x1_23FF)], 0xFFFF_FFFF);
    check("cvt.u8.u32", 32, &[(32, 0x1_23FF)], 0xFF);
    check("cvt.sat.u8.s32", 32, &[(32, 0xFFFF_FFFF)], 0);
    check("cvt.sat.u8.s32", 32, &[(32, 300)], 255);
    check("cvt.sat.s8.s32", 32, &[(32, 300)], 127);
    check("cvt.sat.s8.s32", 32, &[(32, 0x8000_0000)], 0xFFFF_FF80);
    check("cvt.sat.s32.u32", 32, &[(32, 0xFFFF_FFFF)], 0x7FFF_FFFF);
    check("cvt.sat.u32.s64", 32, &[(64, u64::MAX)], 0);
}

fn word(value: f32) -> u32 {
    value.to_bits()
}

#[test]
fn conversions_of_floats() {
    let of = |value: f32| [(32, u64::from(value.to_bits()))];
    check("cvt.rni.s32.f32", 32, &of(2.5), 2);
    check("cvt.rzi.s32.f32", 32, &of(-2.9), 0xFFFF_FFFE);
    check("cvt.rmi.s32.f32", 32, &of(-2.1), 0xFFFF_FFFD);
    check("cvt.rpi.s32.f32", 32, &of(2.1), 3);
    check("cvt.rzi.s32.f32", 32, &of(3e9), 0x7FFF_FFFF);
    check("cvt.rzi.u32.f32", 32, &of(-5.0), 0);
    check("cvt.rzi.u8.f32", 32, &of(300.0), 255);
    check("cvt.rzi.s32.f32", 32, &of(f32::NAN), 0);
    check("cvt.rzi.s64.f32", 64, &of(f32::NAN), 1 << 63);
    check("cvt.rzi.u32.f64", 32, &[(64, f64::NAN.to_bits())], 1 << 31);
    check("cvt.f64.f32", 64, &of(0.1), f64::from(0.1f32).to_bits());
    let tenth = [(64, 0.1f64.to_bits())];
    check("cvt.rn.f32.f64", 32, &tenth, word(0.1).into());
    check("cvt.rz.f32.f64", 32, &tenth, word(0.1f32.next_down()).into());
    check("cvt.rp.f32.f64", 32, &tenth, word(0.1).into());
    check("cvt.rm.f32.f64", 32, &tenth, word(0.1f32.next_down()).into());
    check("cvt.rz.f32.f64", 32, &[(64, 1e300f64.to_bits())], word(f32::MAX).into());
    check("cvt.rni.f32.f32", 32, &of(-3.5), word(-4.0).into());
    check("cvt.sat.f32.f32", 32, &of(-3.5), 0);
    check("cvt.rn.f32.u32", 32, &[(32, 0x0100_0001)], word(16_777_216.0).into());
    check("cvt.rp.f32.u32", 32, &[(32, 0x0100_0001)], word(16_777_218.0).into());
    check("cvt.rz.f32.s32", 32, &[(32, 0xFEFF_FFFF)], word(-16_777_216.0).into());
    check("cvt.rm.f32.s32", 32, &[(32, 0xFEFF_FFFF)], word(-16_777_218.0).into());
    check("cvt.rn.f64.u64", 64, &[(64, u64::MAX)], 18_446_744_073_709_551_616f64.to_bits());
    check("cvt.rz.f64.u64", 64, &[(64, u64::MAX)], 18_446_744_073_709_549_568f64.to_bits());
}

#[test]
fn floats() {
    let tiny = f32::from_bits(3);
    check_words("fma.rn.f32", &[word(1.0 + f32::EPSILON), word(1.0 - f32::EPSILON), word(-1.0)], {
        word((1.0 + f32::EPSILON).mul_add(1.0 - f32::EPSILON, -1.0))
    });
    // One and a little more or less, in each direction.
    let least = f32::from_bits(1);
    for (round, more, less) in [
        ("rn", 1.0, 1.0),
        ("rz", 1.0, 1f32.next_down()),
        ("rm", 1.0, 1f32.next_down()),
        ("rp", 1f32.next_up(), 1.0),
    ] {
        check_words(&format!("add.{round}.f32"), &[word(1.0), word(least)], word(more));
        check_words(&format!("sub.{round}.f32"), &[word(1.0), word(least)], word(less));
        let fused = [word(least), word(least), word(1.0)];
        check_words(&format!("fma.{round}.f32"), &fused, word(more));
    }
    check_words("mul.rz.f32", &[word(f32::MAX), word(2.0)], word(f32::MAX));
    check_words("mul.rn.f32", &[word(f32::MAX), word(2.0)], word(f32::INFINITY));
    check_words("add.rm.f32", &[word(1.0), word(-1.0)], word(-0.0));
    check_words("add.rz.f32", &[word(1.0), word(-1.0)], 0);
    check_words("add.rz.f32", &[word(f32::INFINITY), word(1.0)], word(f32::INFINITY));
    check_words("sub.rz.f32", &[word(f32::INFINITY), word(f32::INFINITY)], 0x7FFF_FFFF);
    check_words("add.rn.ftz.f32", &[word(tiny), word(-0.0)], 0);
    check_words("add.rn.f32", &[word(tiny), word(tiny)], 6);
    check_words("mul.rn.ftz.f32", &[word(f32::MIN_POSITIVE), word(-0.5)], word(-0.0));
    check_words("add.rn.sat.f32", &[word(3.0), word(4.0)], word(1.0));
    check_words("add.rn.sat.f32", &[word(f32::NAN), word(4.0)], 0);
    check_words("min.f32", &[word(f32::NAN), word(4.0)], word(4.0));
    check_words("min.f32", &[word(0.0), word(-0.0)], word(-0.0));
    check_words("max.f32", &[word(0.0), word(-0.0)], 0);
    check_words("max.f32", &[word(f32::NAN), word(f32::NAN)], 0x7FFF_FFFF);
    check_words("neg.f32", &[word(1.5)], word(-1.5));
    check_words("sqrt.rn.f32", &[word(2.0)], word(2f32.sqrt()));
    check_words("rcp.rn.f32", &[word(3.0)], word(1.0 / 3.0));
    let double = |value: f64| (64, value.to_bits());
    check("fma.rn.f64", 64, &[double(0.1), double(10.0), double(-1.0)], {
        0.1f64.mul_add(10.0, -1.0).to_bits()
    });
    check("div.rn.f64", 64, &[double(1.0), double(3.0)], (1.0f64 / 3.0).to_bits());
}

/// Whether `setp` holds.
fn holds(opcode: &str, bits: u32, a: u64, b: u64) -> bool {
    let [x, y] = [register(bits, 1), register(bits, 2)];
    let body = format!(
        "mov.b{bits} {x}, {a:#x};\nmov.b{bits} {y}, {b:#x};\n{opcode} %p1|%p2, {x}, {y};\n\
         selp.b32 %r1, 1, 0, %p1;\n@%p2 add.s32 %r1, %r1, 2;\nst.global.b32 [%rd0], %r1;"
    );
    let given = [Given::Buffer(Param::Out("out"), &[0; 4])];
    let got = launched(&text("", &body), threads(1, 1), &given);
    match got.unwrap_or_else(|error| panic!("{error}"))[0][0] {
        1 => true,
        2 => false,
        other => panic!("{opcode}: {other}, where one of both holds"),
    }
}

#[test]
fn comparisons() {
    let minus = u64::from(u32::MAX);
    assert!(holds("setp.lt.s32", 32, minus, 1) && !holds("setp.lt.u32", 32, minus, 1));
    assert!(holds("setp.hi.u32", 32, minus, 1) && holds("setp.ge.s16", 16, 5, 5));
    assert!(holds("setp.ne.b64", 64, 1 << 40, 0) && !holds("setp.eq.s64", 64, 1 << 40, 0));
    assert!(holds("setp.le.s64", 64, u64::MAX, 0));
    let [nan, one] = [f32::NAN, 1.0].map(|value| u64::from(word(value)));
    assert!(!holds("setp.ne.f32", 32, nan, one) && holds("setp.neu.f32", 32, nan, one));
    assert!(holds("setp.nan.f32", 32, nan, one) && holds("setp.num.f32", 32, one, one));
    assert!(holds("setp.gtu.f32", 32, nan, one) && !holds("setp.gt.f32", 32, nan, one));
    assert!(holds("setp.eq.ftz.f32", 32, 3, 0x8000_0000) && !holds("setp.eq.f32", 32, 3, 0));
}

#[test]
fn numbers_say_predicates() {
    let body = "mov.pred %p1, -1;\nmov.pred %p2, 0;\nselp.b32 %r1, 4, 0, %p1;\n\
                @%p2 add.s32 %r1, %r1, 2;\n@!%p2 add.s32 %r1, %r1, 1;";
    assert_eq!(words_of(body), [5; 32]);
}

/// A word from each of 32 threads.
fn words_of(body: &str) -> Vec<u32> {
    let body = format!(
        "{body}\nmul.wide.u32 %rd1, %r0, 4;\nadd.s64 %rd1, %rd0, %rd1;\nst.global.u32 [%rd1], %r1;"
    );
    let given = [Given::Buffer(Param::Out("out"), &[0; 128])];
    let got = launched(&text("", &body), threads(1, 32), &given);
    let got = got.unwrap_or_else(|error| panic!("{error}\n{body}")).remove(0);
    got.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

#[test]
fn lanes_talk_to_each_other() {
    let check = |body: &str, expected: fn(u32) -> u32| {
        assert_eq!(words_of(body), (0..32).map(expected).collect::<Vec<_>>(), "{body}");
    };
    check("shfl.sync.down.b32 %r1, %r0, 4, 31, -1;", |i| if i < 28 { i + 4 } else { i });
    check("shfl.sync.up.b32 %r1, %r0, 3, 0, -1;", |i| if i >= 3 { i - 3 } else { i });
    check("shfl.sync.bfly.b32 %r1, %r0, 5, 31, -1;", |i| i ^ 5);
    check("shfl.sync.idx.b32 %r1, %r0, 3, 31, -1;", |_| 3);
    // Segments of eight lanes.
    check("shfl.sync.idx.b32 %r1, %r0, 3, 0x181f, -1;", |i| i / 8 * 8 + 3);
    check("shfl.sync.down.b32 %r1|%p1, %r0, 6, 0x181f, -1;\n@!%p1 mov.u32 %r1, 99;", |i| {
        if i % 8 < 2 { i + 6 } else { 99 }
    });
    check("setp.lt.u32 %p1, %r0, 5;\nvote.sync.ballot.b32 %r1, %p1, -1;", |_| 31);
    check(
        "setp.lt.u32 %p1, %r0, 5;\nvote.sync.any.pred %p2, %p1, -1;\nselp.u32 %r1, 1, 0, %p2;",
        |_| 1,
    );
    check(
        "setp.lt.u32 %p1, %r0, 5;\nvote.sync.uni.pred %p2, !%p1, -1;\nselp.u32 %r1, 1, 0, %p2;",
        |_| 0,
    );
    check("redux.sync.add.s32 %r1, %r0, -1;", |_| 31 * 16);
    check("redux.sync.min.s32 %r1, %r0, -1;", |_| 0);
    check("mov.u32 %r1, %lanemask_lt;", |i| (1 << i) - 1);
    // Both halves vote by themselves, and meet again.
    check(
        "and.b32 %r2, %r0, 1;\nsetp.eq.s32 %p1, %r2, 0;\n@%p1 bra EVEN;\n\
         redux.sync.add.s32 %r1, %r0, 0xaaaaaaaa;\nbra END;\n\
         EVEN:\nredux.sync.add.s32 %r1, %r0, 0x55555555;\n\
         END:\nactivemask.b32 %r3;\nsetp.ne.s32 %p2, %r3, -1;\n@%p2 mov.u32 %r1, 0;",
        |i| if i % 2 == 0 { 240 } else { 256 },
    );
    // Two masks at one instruction.
    check(
        "setp.lt.u32 %p1, %r0, 16;\nselp.b32 %r2, 0xffff, 0xffff0000, %p1;\n\
         redux.sync.max.u32 %r1, %r0, %r2;",
        |i| if i < 16 { 15 } else { 31 },
    );
}

#[test]
fn threads_part_and_meet_again() {
    // A loop of as many rounds as the thread's number, after which all are together.
    let body = "mov.u32 %r1, 0;\nmov.u32 %r2, 0;\nLOOP:\nsetp.ge.u32 %p1, %r2, %r0;\n\
                @%p1 bra END;\nadd.s32 %r2, %r2, 1;\nadd.s32 %r1, %r1, %r2;\nbra LOOP;\n\
                END:\nactivemask.b32 %r3;\nsetp.ne.s32 %p2, %r3, -1;\n@%p2 mov.u32 %r1, 77;";
    let expected: Vec<u32> = (0..32).map(|i| i * (i + 1) / 2).collect();
    assert_eq!(words_of(body), expected);
    let table = "and.b32 %r2, %r0, 3;\nbrx.idx %r2, TS;\nTS: .branchtargets A, B, A, C;\n\
                 A:\nmov.u32 %r1, 10;\nbra END;\nB:\nmov.u32 %r1, 11;\nbra END;\n\
                 C:\nmov.u32 %r1, 12;\nEND:";
    let expected: Vec<u32> = (0..32).map(|i| [10, 11, 10, 12][i % 4]).collect();
    assert_eq!(words_of(table), expected);
}

#[test]
fn memory_and_atomics() {
    let body = "mov.b32 %r2, 0xfffe8081;\nst.local.u32 [l], %r2;\nld.local.s8 %r1, [l+1];\n\
                ld.local.u16 %r3, [l+2];\nadd.s32 %r1, %r1, %r3;";
    let with = format!(".local .align 4 .b8 l[4];\n{body}");
    assert_eq!(words_of(&with)[3], 0xFFFF_FF80u32.wrapping_add(0xFFFE));
    let packed = "mov.b64 %rd2, {%r0, 7};\nmov.b64 {%r2, %r3}, %rd2;\nadd.s32 %r1, %r2, %r3;";
    assert_eq!(words_of(packed)[31], 38);
    let generic = ".shared .align 4 .b8 s[4];\nmov.u64 %rd2, s;\ncvta.shared.u64 %rd3, %rd2;\n\
                   atom.shared.exch.b32 %r4, [s], %r0;\n";
    let error =
        launched(&text("", generic), threads(1, 1), &[Given::Buffer(Param::InOut("out"), &[0; 8])]);
    assert!(error.unwrap_err().to_string().contains("what it changes"));
    for (change, old, by, new) in [
        ("add.u32", 5, 7u32, 12),
        ("min.s32", 5, 0xFFFF_FFFF, 0xFFFF_FFFF),
        ("max.u32", 5, 0xFFFF_FFFF, 0xFFFF_FFFF),
        ("inc.u32", 5, 5, 0),
        ("inc.u32", 5, 6, 6),
        ("dec.u32", 0, 6, 6),
        ("dec.u32", 7, 6, 6),
        ("dec.u32", 3, 6, 2),
        ("and.b32", 6, 3, 2),
        ("exch.b32", 6, 3, 3),
    ] {
        let body =
            format!("atom.global.{change} %r1, [%rd0], {by:#x};\nst.global.u32 [%rd0+4], %r1;");
        let before = [u32::to_le_bytes(old), [0; 4]].concat();
        let given = [Given::Buffer(Param::InOut("both"), &before)];
        let got = launched(&text("", &body), threads(1, 1), &given).unwrap().remove(0);
        assert_eq!(got, [u32::to_le_bytes(new), u32::to_le_bytes(old)].concat(), "{change}");
    }
    let swap = "atom.global.cas.b64 %rd1, [%rd0], 3, 9;\natom.global.cas.b64 %rd2, [%rd0], 3, 8;";
    let given = [Given::Buffer(Param::InOut("both"), &3u64.to_le_bytes())];
    let got = launched(&text("", swap), threads(1, 1), &given).unwrap().remove(0);
    assert_eq!(got, 9u64.to_le_bytes());
}
