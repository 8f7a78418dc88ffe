// The forms of stamp.cl for FPGA cards: a byte of a mask each clock, a group of an overlay. Both
// blend: rows are read, changed and written by one process, so that none is read while it changes.
#include "rows.hpp"

// The longest row in bytes, of pixels of 4.
static const unsigned ROW_MAX = 4 * (SIDE_MAX + 1);

static uchar blended(unsigned value, unsigned sample, unsigned opacity)
{
#pragma HLS INLINE
    return (uchar)((value * opacity + sample * (255 - opacity) + 127) / 255);
}

// Rows of values over rows that are there, each value with its opacity.
static void blend(Words &values, Words &opacities, Word *dst, unsigned first, unsigned bytes,
                  unsigned rows, unsigned stride)
{
    Word line[(ROW_MAX + NPC - 1) / NPC + 1];
    for (unsigned y = 0; y < rows; y++) {
        unsigned start = first + y * stride, at = start / NPC, shift = start % NPC;
        for (unsigned g = 0; g < words(shift + bytes); g++) {
#pragma HLS PIPELINE II = 1
            line[g] = dst[at + g];
        }
        Word value = 0, opacity = 0;
        for (unsigned g = 0; g < words(shift + bytes); g++) {
#pragma HLS PIPELINE II = 1
            Word next_value = 0, next_opacity = 0, to = line[g];
            if (g < words(bytes)) {
                next_value = values.read();
                next_opacity = opacities.read();
            }
            for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
                // Bytes before the row wrap around to behind it.
                if (g * NPC + l - shift < bytes)
                    set_lane(to, l, blended(lane_of_two(value, next_value, NPC + l - shift),
                                            lane(to, l),
                                            lane_of_two(opacity, next_opacity, NPC + l - shift)));
            }
            dst[at + g] = to;
            value = next_value;
            opacity = next_opacity;
        }
    }
}

static void repeat(Words &out, unsigned value, unsigned count)
{
    Word to = 0;
    for (unsigned l = 0; l < NPC; l++) {
#pragma HLS UNROLL
        set_lane(to, l, (uchar)value);
    }
    for (unsigned i = 0; i < count; i++) {
#pragma HLS PIPELINE II = 1
        out.write(to);
    }
}

// Opacities for rows of pixels `step` bytes apart: none for what lies between them.
static void spread(Words &in, Numbers &out, unsigned pixels, unsigned rows, unsigned step,
                   unsigned halvings)
{
    for (unsigned y = 0; y < rows; y++) {
        Word from = 0;
        unsigned come = 0, pixel = 0, phase = 0;
        for (unsigned i = 0; i < (pixels - 1) * step + 1; i++) {
#pragma HLS PIPELINE II = 1
            unsigned at = pixel << halvings;
            if (phase == 0 && at / NPC == come) {
                from = in.read();
                come++;
            }
            out.write(phase == 0 ? lane(from, at % NPC) : 0u);
            pixel += phase == 0;
            phase = phase + 1 == step ? 0 : phase + 1;
        }
    }
}

// Opacities of the pixels of an RGBA picture, each as often as a pixel of the plane has bytes.
static void opacities_of(Words &in, Numbers &out, unsigned pixels, unsigned rows, unsigned bytes,
                         unsigned halvings, unsigned opacity)
{
    for (unsigned y = 0; y < rows; y++) {
        Word from = 0;
        unsigned come = 0, pixel = 0, phase = 0;
        for (unsigned i = 0; i < pixels * bytes; i++) {
#pragma HLS PIPELINE II = 1
            unsigned at = 4 * (pixel << halvings) + 3;
            if (phase == 0 && at / NPC == come) {
                from = in.read();
                come++;
            }
            out.write((lane(from, at % NPC) * opacity + 127) / 255);
            phase = phase + 1 == bytes ? 0 : phase + 1;
            pixel += phase == 0;
        }
    }
}

// Values as they are, but for the opacity in pixels of 4 bytes: all of it.
static void opaque(Words &in, Words &out, unsigned count, unsigned bytes)
{
    for (unsigned i = 0; i < count; i++) {
#pragma HLS PIPELINE II = 1
        Word to = in.read();
        for (unsigned l = 3; l < NPC; l += 4) {
#pragma HLS UNROLL
            if (bytes == 4)
                set_lane(to, l, 255);
        }
        out.write(to);
    }
}

static void stamp_rows(const Word *mask, Word *dst, unsigned mask_at, unsigned mask_stride,
                       unsigned first, unsigned stride, unsigned step, unsigned pixels,
                       unsigned rows, unsigned halvings, unsigned value)
{
#pragma HLS DATAFLOW
    Words in("in"), values("values"), opacities("opacities");
    Numbers wide("wide");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = wide depth = 64
#pragma HLS STREAM variable = values depth = 64
#pragma HLS STREAM variable = opacities depth = 64
    unsigned bytes = (pixels - 1) * step + 1;
    read_rows(mask, in, mask_at, ((pixels - 1) << halvings) + 1, rows, mask_stride);
    spread(in, wide, pixels, rows, step, halvings);
    pack_rows(wide, opacities, bytes, rows);
    repeat(values, value, words(bytes) * rows);
    blend(values, opacities, dst, first, bytes, rows, stride);
}

// What a mask from `at` on, in full size, covers of `side` samples: [first, end).
struct Cover {
    int first, end;

    Cover(int at, unsigned mask_side, unsigned side, unsigned halvings)
    {
        first = (at + (1 << halvings) - 1) >> halvings;
        end = ((at + (int)mask_side - 1) >> halvings) + 1;
        first = first < 0 ? 0 : first;
        end = end < (int)side ? end : (int)side;
    }
};

extern "C" void stamp(const Word *mask, Word *dst, unsigned mask_width, unsigned mask_height,
                      unsigned offset, unsigned stride, unsigned step, unsigned width,
                      unsigned height, int x, int y, unsigned halvings, unsigned value)
{
#pragma HLS INTERFACE m_axi port = mask bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = mask_width
#pragma HLS INTERFACE s_axilite port = mask_height
#pragma HLS INTERFACE s_axilite port = offset
#pragma HLS INTERFACE s_axilite port = stride
#pragma HLS INTERFACE s_axilite port = step
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = x
#pragma HLS INTERFACE s_axilite port = y
#pragma HLS INTERFACE s_axilite port = halvings
#pragma HLS INTERFACE s_axilite port = value
#pragma HLS INTERFACE s_axilite port = return
    Cover columns(x, mask_width, width, halvings), rows(y, mask_height, height, halvings);
    if (columns.first >= columns.end || rows.first >= rows.end)
        return;
    unsigned left = (unsigned)columns.first, top = (unsigned)rows.first;
    unsigned mask_at = ((top << halvings) - (unsigned)y) * mask_width;
    mask_at += (left << halvings) - (unsigned)x;
    stamp_rows(mask, dst, mask_at, mask_width << halvings, offset + top * stride + left * step,
               stride, step, (unsigned)columns.end - left, (unsigned)rows.end - top, halvings,
               value);
}

extern "C" void overlay(const Word *src, Word *dst, unsigned src_offset, unsigned src_stride,
                        unsigned dst_offset, unsigned dst_stride, unsigned width,
                        unsigned height, unsigned opacity)
{
#pragma HLS INTERFACE m_axi port = src bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = src_offset
#pragma HLS INTERFACE s_axilite port = src_stride
#pragma HLS INTERFACE s_axilite port = dst_offset
#pragma HLS INTERFACE s_axilite port = dst_stride
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = opacity
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words values("values"), opacities("opacities");
#pragma HLS STREAM variable = values depth = 64
#pragma HLS STREAM variable = opacities depth = 64
    read_rows(src, values, src_offset, width, height, src_stride);
    repeat(opacities, opacity, words(width) * height);
    blend(values, opacities, dst, dst_offset, width, height, dst_stride);
}

extern "C" void overlay_alpha(const Word *src, const Word *alpha, Word *dst, unsigned src_offset,
                              unsigned src_stride, unsigned alpha_stride, unsigned dst_offset,
                              unsigned dst_stride, unsigned width, unsigned height,
                              unsigned bytes, unsigned halvings, unsigned opacity)
{
#pragma HLS INTERFACE m_axi port = src bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = alpha bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem2 offset = slave
#pragma HLS INTERFACE s_axilite port = src_offset
#pragma HLS INTERFACE s_axilite port = src_stride
#pragma HLS INTERFACE s_axilite port = alpha_stride
#pragma HLS INTERFACE s_axilite port = dst_offset
#pragma HLS INTERFACE s_axilite port = dst_stride
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = bytes
#pragma HLS INTERFACE s_axilite port = halvings
#pragma HLS INTERFACE s_axilite port = opacity
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words in("in"), values("values"), pixels("pixels"), opacities("opacities");
    Numbers wide("wide");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = values depth = 64
#pragma HLS STREAM variable = pixels depth = 64
#pragma HLS STREAM variable = wide depth = 64
#pragma HLS STREAM variable = opacities depth = 64
    unsigned row = width * bytes;
    read_rows(src, in, src_offset, row, height, src_stride);
    opaque(in, values, words(row) * height, bytes);
    read_rows(alpha, pixels, 0, 4 * ((width - 1) << halvings) + 4, height,
              alpha_stride << halvings);
    opacities_of(pixels, wide, width, height, bytes, halvings, opacity);
    pack_rows(wide, opacities, row, height);
    blend(values, opacities, dst, dst_offset, row, height, dst_stride);
}
