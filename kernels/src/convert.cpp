// The form of yuv_rgb in convert.cl for FPGA cards: a pixel each clock.
#include "rows.hpp"

// The rows of luma and of both chroma samples that a row of pixels wants.
static void read_planes(const Word *src, Words &luma, Words &cb, Words &cr, unsigned width,
                        unsigned height, unsigned luma_at, unsigned luma_stride,
                        unsigned luma_step, unsigned cb_offset, unsigned cr_offset,
                        unsigned chroma_stride, unsigned chroma_step, unsigned chroma_shift)
{
    unsigned luma_bytes = (width - 1) * luma_step + 1;
    unsigned chroma_bytes = (width - 1) / 2 * chroma_step + 1;
    for (unsigned y = 0; y < height; y++) {
        unsigned chroma = (y >> chroma_shift) * chroma_stride;
        read_row(src, luma, luma_at + y * luma_stride, luma_bytes);
        read_row(src, cb, cb_offset + chroma, chroma_bytes);
        read_row(src, cr, cr_offset + chroma, chroma_bytes);
    }
}

// A place in a row that comes as words; it only moves on.
struct Cursor {
    Word word;
    unsigned next;

    int at(Words &in, unsigned index)
    {
#pragma HLS INLINE
        if (index / NPC >= next) {
            word = in.read();
            next++;
        }
        return lane(word, index % NPC);
    }
};

static void convert(Words &luma, Words &cb, Words &cr, Numbers &out, unsigned width,
                    unsigned height, unsigned luma_step, unsigned chroma_step, unsigned red_at,
                    unsigned black, int cy, int cvr, int cvg, int cug, int cub)
{
    for (unsigned y = 0; y < height; y++) {
        Cursor lumas, cbs, crs;
        lumas.next = cbs.next = crs.next = 0;
        for (unsigned x = 0; x < width; x++) {
#pragma HLS PIPELINE II = 1
            int above = lumas.at(luma, x * luma_step) - (int)black;
            int u = cbs.at(cb, x / 2 * chroma_step) - 128;
            int v = crs.at(cr, x / 2 * chroma_step) - 128;
            int value = cy * (above < 0 ? 0 : above) + (1 << 19);
            unsigned red = clamped((value + cvr * v) >> 20);
            unsigned green = clamped((value + cvg * v + cug * u) >> 20);
            unsigned blue = clamped((value + cub * u) >> 20);
            unsigned first = red_at == 0 ? red : blue, last = red_at == 0 ? blue : red;
            out.write(first | green << 8 | last << 16 | 255u << 24);
        }
    }
}

// Pixels of `step` bytes each, rows from the first byte of a word on.
static void pack_pixels(Numbers &in, Words &out, unsigned width, unsigned height, unsigned step)
{
    for (unsigned y = 0; y < height; y++) {
        Word to = 0;
        unsigned filled = 0;
        for (unsigned x = 0; x < width; x++) {
#pragma HLS PIPELINE II = 1
            unsigned pixel = in.read();
            for (unsigned i = 0; i < 4; i++) {
#pragma HLS UNROLL
                if (i < step) {
                    set_lane(to, filled, (uchar)(pixel >> 8 * i));
                    if (++filled == NPC) {
                        out.write(to);
                        filled = 0;
                    }
                }
            }
        }
        if (filled != 0)
            out.write(to);
    }
}

extern "C" void yuv_rgb(const Word *src, Word *dst, unsigned width, unsigned height,
                        unsigned luma_stride, unsigned luma_step, unsigned cb_offset,
                        unsigned cr_offset, unsigned chroma_stride, unsigned chroma_step,
                        unsigned chroma_shift, unsigned dst_stride, unsigned dst_step,
                        unsigned red_at, unsigned black, int cy, int cvr, int cvg, int cug,
                        int cub, unsigned luma_at)
{
#pragma HLS INTERFACE m_axi port = src bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = luma_stride
#pragma HLS INTERFACE s_axilite port = luma_step
#pragma HLS INTERFACE s_axilite port = cb_offset
#pragma HLS INTERFACE s_axilite port = cr_offset
#pragma HLS INTERFACE s_axilite port = chroma_stride
#pragma HLS INTERFACE s_axilite port = chroma_step
#pragma HLS INTERFACE s_axilite port = chroma_shift
#pragma HLS INTERFACE s_axilite port = dst_stride
#pragma HLS INTERFACE s_axilite port = dst_step
#pragma HLS INTERFACE s_axilite port = red_at
#pragma HLS INTERFACE s_axilite port = black
#pragma HLS INTERFACE s_axilite port = cy
#pragma HLS INTERFACE s_axilite port = cvr
#pragma HLS INTERFACE s_axilite port = cvg
#pragma HLS INTERFACE s_axilite port = cug
#pragma HLS INTERFACE s_axilite port = cub
#pragma HLS INTERFACE s_axilite port = luma_at
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words luma("luma"), cb("cb"), cr("cr"), out("out");
    Numbers pixels("pixels");
// A row of luma comes before the chroma that is wanted with its first pixel.
#pragma HLS STREAM variable = luma depth = 4096
#pragma HLS STREAM variable = cb depth = 4096
#pragma HLS STREAM variable = cr depth = 64
#pragma HLS STREAM variable = pixels depth = 64
#pragma HLS STREAM variable = out depth = 64
    read_planes(src, luma, cb, cr, width, height, luma_at, luma_stride, luma_step, cb_offset,
                cr_offset, chroma_stride, chroma_step, chroma_shift);
    convert(luma, cb, cr, pixels, width, height, luma_step, chroma_step, red_at, black, cy, cvr,
            cvg, cug, cub);
    pack_pixels(pixels, out, width, height, dst_step);
    write_rows(out, dst, 0, width * dst_step, height, dst_stride);
}
