//! Small programs that do what they must not, and what is said of each.

use super::*;

const OUT: Param = Param::Out("out");
const BOTH: Param = Param::InOut("both");
const IN: Param = Param::In("in");

/// Runs a text over a buffer of 256 bytes; the complaint must hold all the words.
fn complains(shape: Shape, param: Param, text: &str, words: &[&str]) {
    let given = [Given::Buffer(param, &[7; 256])];
    let error = launched(text, shape, &given).expect_err(text).to_string();
    for word in words {
        assert!(error.contains(word), "`{word}` is not in `{error}` of\n{text}");
    }
}

fn runs(shape: Shape, text: &str) -> Vec<u8> {
    let given = [Given::Buffer(BOTH, &[7; 256])];
    launched(text, shape, &given).unwrap_or_else(|error| panic!("{error}\n{text}")).remove(0)
}

#[test]
fn accesses_outside_are_found() {
    let beyond = "st.global.u32 [%rd0+256], %r0;";
    let words = ["kernel t, PTX line 14 (st.global.u32), thread 0 of block 0", "256 bytes of both"];
    complains(threads(1, 1), BOTH, &text("", beyond), &words);
    let before = "ld.global.u8 %r1, [%rd0+-1];";
    complains(threads(1, 1), BOTH, &text("", before), &["1 bytes before both"]);
    let across = "ld.global.u32 %r1, [%rd0+254];";
    complains(threads(1, 1), BOTH, &text("", across), &["no multiple"]);
    let nowhere = "ld.global.u32 %r1, [16];";
    complains(threads(1, 1), BOTH, &text("", nowhere), &["in no buffer"]);
    let vector = "ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd0+8];";
    complains(threads(1, 1), BOTH, &text("", vector), &["16 bytes", "no multiple"]);
    let fourth = "mul.wide.u32 %rd1, %r0, 4; add.s64 %rd2, %rd0, %rd1;\n\
                  st.global.u32 [%rd2], %r0;";
    let words = ["PTX line 15", "thread 64 of block 0", "past the 256"];
    complains(threads(1, 65), BOTH, &text("", fourth), &words);
    let shared = "st.shared.u32 [s+16], %r0;";
    let declared = ".shared .align 4 .b8 s[16];";
    complains(threads(1, 1), BOTH, &text(declared, shared), &["past the 16 bytes of s"]);
    let local = ".local .align 4 .b8 l[8];\nmov.u64 %rd1, l;\nld.local.u32 %r1, [%rd1+8];";
    complains(threads(1, 1), BOTH, &text("", local), &["past the 8 bytes of l"]);
    let constant = "mov.u64 %rd1, c; cvta.const.u64 %rd2, %rd1; ld.u8 %r1, [%rd2+2];";
    complains(threads(1, 1), BOTH, &text(".const .b8 c[2] = {1, 2};", constant), &["of c"]);
}

#[test]
fn buffers_are_used_as_the_parameters_say() {
    let store = "st.global.u8 [%rd0+3], %r0;";
    complains(threads(1, 1), IN, &text("", store), &["writes byte 3 of in", "only to be read"]);
    let load = "ld.global.u8 %r1, [%rd0+3];";
    complains(threads(1, 1), OUT, &text("", load), &["reads byte 3 of out, an output, before"]);
    let after = "st.global.u8 [%rd0+3], %r0; ld.global.u8 %r1, [%rd0+3];";
    runs(threads(1, 1), &text("", after));
    let cached = "ld.global.nc.u8 %r1, [%rd0+3]; st.global.u8 [%rd0+3], %r1;";
    complains(threads(1, 1), BOTH, &text("", cached), &["byte 3 of both", "never changing (.nc)"]);
}

#[test]
fn races_are_found_and_barriers_end_them() {
    let same = "st.global.u8 [%rd0], %r0;";
    let words = ["thread 1 of block 0: writes byte 0 of both, which thread 0 of block 0 writes"];
    complains(threads(1, 2), BOTH, &text("", same), &words);
    let blocks = "mov.u32 %r1, %ctaid.x; st.global.u8 [%rd0], %r1;";
    let words = ["thread 0 of block 1", "which thread 0 of block 0 writes"];
    complains(threads(2, 1), BOTH, &text("", blocks), &words);

    // Each thread reads what its neighbour wrote.
    let exchange = |barrier: &str| {
        let body = format!(
            "shl.b32 %r1, %r0, 2; mov.u32 %r2, s; add.s32 %r3, %r2, %r1;\n\
             st.shared.u32 [%r3], %r0;\n{barrier}\n\
             xor.b32 %r4, %r1, 4; add.s32 %r5, %r2, %r4;\n\
             ld.shared.u32 %r6, [%r5];\n\
             cvt.u64.u32 %rd1, %r1; add.s64 %rd2, %rd0, %rd1; st.global.u32 [%rd2], %r6;"
        );
        text(".shared .align 4 .b8 s[512];", &body)
    };
    let got = runs(threads(1, 64), &exchange("bar.sync 0;"));
    let words = got.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    assert!(words.eq((0..64).map(|i| i ^ 1)));
    runs(threads(1, 64), &exchange("bar.warp.sync 0xffffffff;"));
    let words = ["ld.shared.u32", "reads byte 4 of s, which thread 1 of block 0 writes"];
    complains(threads(1, 64), BOTH, &exchange(""), &words);

    let reads_then = "ld.global.u8 %r1, [%rd0]; setp.ne.s32 %p1, %r0, 40;\n\
                      @%p1 bra END;\nst.global.u8 [%rd0], %r0;\nEND:";
    let words = ["thread 40 of block 0", "writes byte 0", "reads"];
    complains(threads(1, 64), BOTH, &text("", reads_then), &words);
    let counted = "red.global.add.u32 [%rd0], 1;";
    let got = runs(threads(3, 100), &text("", counted));
    assert_eq!(got[..4], (0x0707_0707u32 + 300).to_le_bytes());
    let and_read = "red.global.add.u32 [%rd0], 1; ld.global.u32 %r1, [%rd0];";
    complains(threads(1, 2), BOTH, &text("", and_read), &["reads byte 0 of both"]);
}

/// A later barrier orders what two blocks do only within each of them.
#[test]
fn readers_of_other_blocks_are_not_forgotten() {
    let body = "ld.global.u8 %r1, [%rd0];\nbar.sync 0;\nmov.u32 %r2, %ctaid.x;\n\
                setp.ne.s32 %p1, %r2, 1;\nsetp.ne.or.s32 %p2, %r0, 0, %p1;\n\
                @%p2 bra END;\nst.global.u8 [%rd0], %r0;\nEND:";
    let words = ["thread 0 of block 1: writes byte 0", "of block 0 reads"];
    complains(threads(2, 64), BOTH, &text("", body), &words);
    runs(threads(1, 64), &text("", &body.replace("%r2, 1", "%r2, 0")));
}

#[test]
fn barriers_that_diverge_are_found() {
    let two = "setp.lt.u32 %p1, %r0, 32;\n@%p1 bra A;\nbar.sync 0;\nbra B;\nA:\nbar.sync 0;\nB:";
    let words =
        ["PTX line 16 (bar.sync)", "thread 32", "while thread 0 of block 0 waits", "line 19"];
    complains(threads(1, 64), BOTH, &text("", two), &words);
    // Who has ended is not waited for.
    runs(threads(1, 64), &text("", "setp.lt.u32 %p1, %r0, 7;\n@%p1 exit;\nbar.sync 0;"));
    let half = "setp.lt.u32 %p1, %r0, 5;\n@%p1 bra A;\nbra B;\n\
                A:\nbar.warp.sync 0xffffffff;\nB:\nbar.sync 0;";
    let words = ["bar.warp.sync", "waits for lanes 0xffffffff", "only 0x0000001f come"];
    complains(threads(1, 32), BOTH, &text("", half), &words);
    let alone = "shfl.sync.idx.b32 %r1, %r0, 0, 31, 2;";
    complains(threads(1, 2), BOTH, &text("", alone), &["not in the mask 0x00000002"]);
    let absent = "setp.eq.u32 %p1, %r0, 0;\n@%p1 bra A;\n\
                  shfl.sync.idx.b32 %r1, %r0, 0, 31, 0xfffffffe;\nA:";
    complains(threads(1, 32), BOTH, &text("", absent), &["lane 0, which takes no part"]);
}

#[test]
fn what_nobody_wrote_is_found_where_it_matters() {
    let local = ".local .align 4 .b8 l[8];\nst.local.u32 [l], %r0;\n";
    let load = |body: &str| text("", &format!("{local}ld.local.u32 %r1, [l+4];\n{body}"));
    runs(threads(1, 1), &load("add.s32 %r2, %r1, 1;\nst.local.u32 [l], %r2;"));
    let stored = load("add.s32 %r2, %r1, 1;\nst.global.u32 [%rd0], %r2;");
    complains(threads(1, 1), BOTH, &stored, &["what it stores", "nobody wrote"]);
    let branch = load("setp.eq.s32 %p1, %r1, 0;\n@%p1 bra END;\nEND:");
    complains(threads(1, 1), BOTH, &branch, &["its condition"]);
    let address =
        load("cvt.u64.u32 %rd1, %r1;\nadd.s64 %rd2, %rd0, %rd1;\nld.global.u8 %r2, [%rd2];");
    complains(threads(1, 1), BOTH, &address, &["its address"]);
    complains(threads(1, 1), BOTH, &text("", "st.global.u32 [%rd0], %r5;"), &["what it stores"]);
    // Shared memory begins anew with each block.
    let once = "mov.u32 %r1, %ctaid.x;\nsetp.ne.s32 %p1, %r1, 0;\n@!%p1 st.shared.u32 [s], %r0;\n\
                ld.shared.u32 %r2, [s];\nst.global.u32 [%rd0], %r2;";
    let words = ["thread 0 of block 1", "what it stores"];
    complains(threads(2, 1), BOTH, &text(".shared .align 4 .b8 s[4];", once), &words);
    // A value that the other side of `and` decides is known.
    let decided = load(
        "setp.eq.s32 %p1, %r1, 0;\nsetp.eq.s32 %p2, %r0, 9;\nand.pred %p3, %p1, %p2;\n\
                        @%p3 bra END;\nEND:",
    );
    runs(threads(1, 1), &decided);
}

#[test]
fn endless_loops_traps_and_divisions_by_zero_are_found() {
    let endless = "LOOP:\nadd.s32 %r1, %r0, 1;\nbra LOOP;";
    let words = ["still runs after 20000 instructions", "thread 0 of block 0"];
    complains(threads(1, 64), BOTH, &text("", endless), &words);
    // One warp waits for a sign of another that never comes.
    let spin = "setp.lt.u32 %p1, %r0, 32;\n@%p1 bra END;\nLOOP:\nld.shared.u32 %r1, [s];\n\
                bra LOOP;\nEND:";
    complains(threads(1, 33), BOTH, &text(".shared .align 4 .b8 s[8];", spin), &["still runs"]);
    complains(threads(1, 1), BOTH, &text("", "trap;"), &["(trap)", "trap"]);
    let zero = "mov.u32 %r1, 5;\nsub.s32 %r2, %r0, 3;\nrem.s32 %r3, %r1, %r2;";
    let words = ["rem.s32", "thread 3 of block 0", "divides by zero"];
    complains(threads(1, 32), BOTH, &text("", zero), &words);
}

#[test]
fn what_is_not_carried_out_is_refused_by_name() {
    let cases = [
        ("sin.approx.f32 %r1, %r2;", "sin.approx.f32: is not carried out"),
        ("div.approx.f32 %r1, %r2, %r3;", ".approx gives is not laid down"),
        ("mul.f32 %r1, %r2, %r3;", "without a rounding"),
        ("add.rz.f64 %rd1, %rd2, %rd3;", "only .rn"),
        ("call foo;", "calls of functions"),
        ("add.s32 %r1, %r2;", "1 sources for 2"),
        ("add.s32 %rd1, %r2, %r3;", "has 64 bits, not 32"),
        ("add.s32 %r9, %r2, %r3;", "%r9 is no register"),
        ("bra NOWHERE;", "no label NOWHERE"),
        ("ld.global.u32 %r1, [%r2];", "an address of 32 bits"),
        ("st.const.u32 [%rd1], %r2;", "only read"),
        ("atom.global.add.f32 %r1, [%rd0], %r2;", "is not carried out"),
        ("ld.global.relaxed.u32 %r1, [%rd0];", ".relaxed is not carried out"),
        ("mov.u32 %r1, %clock;", "%clock is no register"),
    ];
    for (body, words) in cases {
        complains(threads(1, 1), BOTH, &text("", body), &["PTX line 14", words]);
    }
    complains(threads(1, 1), BOTH, ".version 9.0\n.func f() {}", &["PTX line 2", "`.func`"]);
    complains(threads(1, 1), BOTH, ".version 9.0", &["no kernel is called t"]);
    let given = [Given::Buffer(BOTH, &[0; 4]), Given::Number(1)];
    let error = launched(&text("", ""), threads(1, 1), &given).unwrap_err().to_string();
    assert!(error.contains("arguments of [8, 4] bytes for parameters of [8]"), "{error}");
    complains(threads(1, 1025), BOTH, &text("", ""), &["1 blocks of 1025 threads"]);
    complains(threads(0, 1), BOTH, &text("", ""), &["0 blocks"]);
}

/// The same through the compiler and the whole device: the source of a kernel is wrong.
#[test]
fn wrong_sources_of_kernels_are_found() {
    let Some(device) = device_for_tests(CRATE, cuda::GROUP_SIZE) else { return };
    let check = |kernel: &'static Form, words: &[&str]| {
        use crate::command::{Arg, Command, Grid, Launch};
        use crate::device::Device;
        let [src, dst] = [16; 2].map(|bytes| device.alloc(bytes).unwrap());
        device.write(src, 0, &[1; 16]).unwrap();
        let args = vec![Arg::Buffer(src), Arg::Buffer(dst), Arg::U32(16), Arg::U32(1)];
        let launch = Launch { kernel, args, grid: Grid::Items(16) };
        let error = device.run(&[Command::Launch(launch)]).unwrap_err().to_string();
        words.iter().for_each(|word| assert!(error.contains(word), "{word}: {error}"));
        device.free(src).unwrap();
        device.free(dst).unwrap();
    };
    check(&NO_BOUND, &["kernel no_bound", "thread 16 of block 0", "past the 16 bytes of src"]);
    check(&ALL_THE_SAME, &["thread 1 of block 0: writes byte 0 of dst", "thread 0 of block 0"]);
    check(&TOO_FEW, &["too_few", "arguments of [8, 8, 4, 4] bytes for parameters of [8, 8, 4]"]);
}

static NO_BOUND: Form = form(
    "no_bound",
    "KERNEL void no_bound(const uchar *src, uchar *dst, uint count, uint factor)
    { dst[ITEM] = src[ITEM] * factor; }",
);
static ALL_THE_SAME: Form = form(
    "all_the_same",
    "KERNEL void all_the_same(const uchar *src, uchar *dst, uint count, uint factor)
    { if (ITEM < count) dst[0] = src[ITEM]; }",
);
static TOO_FEW: Form =
    form("too_few", "KERNEL void too_few(const uchar *src, uchar *dst, uint count) {}");
