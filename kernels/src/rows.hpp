// What the HLS forms of kernels share: rows of bytes to and from memory as streams of words.
//
// A kernel is a dataflow, as in the second level of Vitis Vision: it reads rows from memory, works
// on a group of PTR_WIDTH / 8 samples each clock where it can, and writes rows back. A row begins
// at any byte; in a stream it begins with the first byte of a word, and its last word is filled up.
#ifndef EDGESCALE_ROWS_HPP
#define EDGESCALE_ROWS_HPP

#include <ap_int.h>
#include <hls_stream.h>

#ifndef PTR_WIDTH
#define PTR_WIDTH 64
#endif

typedef ap_uint<PTR_WIDTH> Word;
typedef hls::stream<Word> Words;
typedef unsigned char uchar;

// Samples of a byte in a word, and the longest row of samples (SIDE_MAX in plane.rs).
static const unsigned NPC = PTR_WIDTH / 8;
static const unsigned SIDE_MAX = 16384;
static const unsigned NONE = 0xFFFFFFFFu;

// Words that hold so many bytes.
static inline unsigned words(unsigned bytes) { return (bytes + NPC - 1) / NPC; }

static inline uchar lane(const Word &word, unsigned i)
{
#pragma HLS INLINE
    return (uchar)word.range(8 * i + 7, 8 * i).to_uint();
}

static inline void set_lane(Word &word, unsigned i, uchar value)
{
#pragma HLS INLINE
    word.range(8 * i + 7, 8 * i) = value;
}

// Lane i of two words that follow each other.
static inline uchar lane_of_two(const Word &first, const Word &second, unsigned i)
{
#pragma HLS INLINE
    return i < NPC ? lane(first, i) : lane(second, i - NPC);
}

static inline uchar clamped(int value)
{
    return (uchar)(value < 0 ? 0 : value > 255 ? 255 : value);
}

// Sample i of n, mirrored at the ends without repeating the last one.
static inline int mirrored(int i, int n)
{
    if (n == 1)
        return 0;
    int period = 2 * n - 2;
    i = (i < 0 ? -i : i) % period;
    return i < n ? i : period - i;
}

typedef hls::stream<unsigned> Numbers;

// Numbers of so many bytes each, one behind the other, as words.
template <unsigned BYTES> static void pack(Numbers &in, Words &out, unsigned count)
{
    Word to = 0;
    for (unsigned i = 0; i < count; i++) {
#pragma HLS PIPELINE II = 1
        unsigned at = i % (NPC / BYTES), low = 8 * BYTES * at;
        to.range(low + 8 * BYTES - 1, low) = in.read();
        if (at + 1 == NPC / BYTES || i + 1 == count)
            out.write(to);
    }
}

// Rows of bytes, each of which begins a word.
static inline void pack_rows(Numbers &in, Words &out, unsigned bytes, unsigned rows)
{
    for (unsigned y = 0; y < rows; y++)
        pack<1>(in, out, bytes);
}

// Pixels of `step` bytes each, at most 4 and the lowest first, as rows that begin with a word.
static inline void pack_pixels(Numbers &in, Words &out, unsigned width, unsigned rows,
                               unsigned step)
{
    for (unsigned y = 0; y < rows; y++) {
        Word to = 0;
        unsigned filled = 0;
        for (unsigned x = 0; x < width; x++) {
#pragma HLS PIPELINE II = 1
            unsigned pixel = in.read();
            Word over = 0;
            for (unsigned i = 0; i < 4; i++) {
#pragma HLS UNROLL
                uchar byte = (uchar)(pixel >> 8 * i);
                if (i < step && filled + i < NPC)
                    set_lane(to, filled + i, byte);
                else if (i < step)
                    set_lane(over, filled + i - NPC, byte);
            }
            filled += step;
            if (filled >= NPC) {
                out.write(to);
                to = over;
                filled -= NPC;
            }
        }
        if (filled != 0)
            out.write(to);
    }
}

// The reverse: a number for each pixel of rows that begin with a word.
static inline void unpack_pixels(Words &in, Numbers &out, unsigned width, unsigned rows,
                                 unsigned step)
{
    for (unsigned y = 0; y < rows; y++) {
        // The last two of the words that have come.
        Word before = 0, here = 0;
        unsigned come = 0;
        for (unsigned x = 0; x < width; x++) {
#pragma HLS PIPELINE II = 1
            unsigned at = x * step, pixel = 0;
            if ((at + step - 1) / NPC == come) {
                before = here;
                here = in.read();
                come++;
            }
            for (unsigned i = 0; i < 4; i++) {
#pragma HLS UNROLL
                if (i < step)
                    pixel |= (unsigned)lane_of_two(before, here, at + i + 2 * NPC - come * NPC)
                             << 8 * i;
            }
            out.write(pixel);
        }
    }
}

// A row of `bytes` bytes that begins at any byte of memory.
static inline void read_row(const Word *from, Words &out, unsigned start, unsigned bytes)
{
    unsigned at = start / NPC, shift = start % NPC, last = (start + bytes - 1) / NPC;
    Word here = from[at];
    for (unsigned g = 0; g < words(bytes); g++) {
#pragma HLS PIPELINE II = 1
        Word next = here;
        // Nothing is read behind the word with the last byte.
        if (at + g + 1 <= last)
            next = from[at + g + 1];
        Word group = 0;
        for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
            set_lane(group, l, lane_of_two(here, next, l + shift));
        }
        out.write(group);
        here = next;
    }
}

// Rows `stride` bytes apart, the first of them `first` bytes after the start.
static inline void read_rows(const Word *from, Words &out, unsigned first, unsigned bytes,
                             unsigned rows, unsigned stride)
{
    for (unsigned y = 0; y < rows; y++)
        read_row(from, out, first + y * stride, bytes);
}

// Writes rows; the bytes around them keep what they hold. A word in which a row ends is held back,
// because the next row may begin in it.
static inline void write_rows(Words &in, Word *to, unsigned first, unsigned bytes, unsigned rows,
                              unsigned stride)
{
    Word held = 0;
    unsigned held_at = NONE;
    for (unsigned y = 0; y < rows; y++) {
        unsigned start = first + y * stride, at = start / NPC, shift = start % NPC;
        unsigned end = start + bytes, used = words(shift + bytes);
        if (held_at != NONE && held_at != at) {
            to[held_at] = held;
            held_at = NONE;
        }
        Word carry = held;
        if (held_at == NONE && shift != 0)
            carry = to[at];
        for (unsigned g = 0; g < used; g++) {
#pragma HLS PIPELINE II = 1
#pragma HLS DEPENDENCE variable = to inter false
            Word next = 0;
            if (g < words(bytes))
                next = in.read();
            Word whole = 0, rest = 0;
            for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
                set_lane(whole, l, l < shift ? lane(carry, l) : lane(next, l - shift));
                set_lane(rest, l, l < shift ? lane(next, NPC - shift + l) : (uchar)0);
            }
            carry = rest;
            unsigned behind = (at + g + 1) * NPC;
            if (behind <= end) {
                to[at + g] = whole;
                if (at + g == held_at)
                    held_at = NONE;
                continue;
            }
            Word old = held;
            if (at + g != held_at)
                old = to[at + g];
            for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
                set_lane(held, l, (at + g) * NPC + l < end ? lane(whole, l) : lane(old, l));
            }
            held_at = at + g;
        }
    }
    if (held_at != NONE)
        to[held_at] = held;
}

#endif
