// The forms of convert.cl for FPGA cards: a pixel each clock.
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

// The components of a pixel, whose red is its byte 0 or 2.
struct Colour {
    int red, green, blue;

    Colour(unsigned pixel, unsigned red_at)
    {
#pragma HLS INLINE
        int first = pixel & 255, last = pixel >> 16 & 255;
        red = red_at == 0 ? first : last;
        green = pixel >> 8 & 255;
        blue = red_at == 0 ? last : first;
    }
};

static void to_gray(Numbers &in, Numbers &out, unsigned count, unsigned red_at)
{
    for (unsigned i = 0; i < count; i++) {
#pragma HLS PIPELINE II = 1
        Colour c(in.read(), red_at);
        out.write((unsigned)(9798 * c.red + 19235 * c.green + 3735 * c.blue + (1 << 14)) >> 15);
    }
}

extern "C" void rgb_gray(const Word *src, Word *dst, unsigned width, unsigned height,
                         unsigned src_stride, unsigned src_step, unsigned red_at,
                         unsigned dst_stride)
{
#pragma HLS INTERFACE m_axi port = src bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = src_stride
#pragma HLS INTERFACE s_axilite port = src_step
#pragma HLS INTERFACE s_axilite port = red_at
#pragma HLS INTERFACE s_axilite port = dst_stride
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words in("in"), out("out");
    Numbers pixels("pixels"), grays("grays");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = pixels depth = 64
#pragma HLS STREAM variable = grays depth = 64
#pragma HLS STREAM variable = out depth = 64
    read_rows(src, in, 0, width * src_step, height, src_stride);
    unpack_pixels(in, pixels, width, height, src_step);
    to_gray(pixels, grays, width * height, red_at);
    pack_rows(grays, out, width, height);
    write_rows(out, dst, 0, width, height, dst_stride);
}

// Factors of red, green and blue.
struct Factors {
    int red, green, blue;

    int weigh(int r, int g, int b) const
    {
#pragma HLS INLINE
        return red * r + green * g + blue * b;
    }
};

// Luma of each pixel; of each four, the component that lies first to `firsts` and the other to
// `seconds`, or both to `firsts` where they lie in pairs.
static void to_yuv(Numbers &in, Numbers &luma, Numbers &firsts, Numbers &seconds, unsigned width,
                   unsigned height, unsigned red_at, bool in_pairs, bool is_cb_first, Factors y,
                   Factors cb, Factors cr, unsigned black)
{
    const Factors first = is_cb_first ? cb : cr, second = is_cb_first ? cr : cb;
    // Sums of two pixels of the row above, 10 bits for each component.
    unsigned above[SIDE_MAX / 2 + 1];
    const int gray = (128 << 22) + (1 << 21);
    for (unsigned row = 0; row < height; row++) {
        bool is_upper = row % 2 == 0, is_last = row + 1 == height;
        unsigned left = 0;
        for (unsigned x = 0; x < width; x++) {
#pragma HLS PIPELINE II = 1
            Colour c(in.read(), red_at);
            int sum = y.weigh(c.red, c.green, c.blue) + (int)(black << 20) + (1 << 19);
            luma.write(clamped(sum >> 20));
            unsigned own = (unsigned)(c.red | c.green << 10 | c.blue << 20);
            // The last column and row count twice where they have no pair.
            unsigned two = (x % 2 == 1 ? left : own) + own;
            left = own;
            if (x % 2 == 0 && x + 1 != width)
                continue;
            unsigned four = (is_upper ? two : above[x / 2]) + two;
            above[x / 2] = two;
            if (is_upper && !is_last)
                continue;
            int r = four & 1023, g = four >> 10 & 1023, b = four >> 20 & 1023;
            unsigned one = clamped((first.weigh(r, g, b) + gray) >> 22);
            unsigned other = clamped((second.weigh(r, g, b) + gray) >> 22);
            firsts.write(in_pairs ? one | other << 8 : one);
            if (!in_pairs)
                seconds.write(other);
        }
    }
}

// All planes by one process, because they may meet in a word.
static void write_planes(Words &luma, Words &firsts, Words &seconds, Word *dst, unsigned width,
                         unsigned height, unsigned luma_stride, unsigned first_at,
                         unsigned second_at, unsigned chroma_stride, bool in_pairs)
{
    unsigned bytes = (width + 1) / 2 * (in_pairs ? 2 : 1);
    for (unsigned y = 0; y < height; y++) {
        write_rows(luma, dst, y * luma_stride, width, 1, 0);
        if (y % 2 == 0 && y + 1 != height)
            continue;
        unsigned at = y / 2 * chroma_stride;
        write_rows(firsts, dst, first_at + at, bytes, 1, 0);
        if (!in_pairs)
            write_rows(seconds, dst, second_at + at, bytes, 1, 0);
    }
}

extern "C" void rgb_yuv(const Word *src, Word *dst, unsigned width, unsigned height,
                        unsigned src_stride, unsigned src_step, unsigned red_at,
                        unsigned luma_stride, unsigned cb_at, unsigned cr_at,
                        unsigned chroma_stride, unsigned chroma_step, int yr, int yg, int yb,
                        int ur, int ug, int ub, int vr, int vg, int vb, unsigned black)
{
#pragma HLS INTERFACE m_axi port = src bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = src_stride
#pragma HLS INTERFACE s_axilite port = src_step
#pragma HLS INTERFACE s_axilite port = red_at
#pragma HLS INTERFACE s_axilite port = luma_stride
#pragma HLS INTERFACE s_axilite port = cb_at
#pragma HLS INTERFACE s_axilite port = cr_at
#pragma HLS INTERFACE s_axilite port = chroma_stride
#pragma HLS INTERFACE s_axilite port = chroma_step
#pragma HLS INTERFACE s_axilite port = yr
#pragma HLS INTERFACE s_axilite port = yg
#pragma HLS INTERFACE s_axilite port = yb
#pragma HLS INTERFACE s_axilite port = ur
#pragma HLS INTERFACE s_axilite port = ug
#pragma HLS INTERFACE s_axilite port = ub
#pragma HLS INTERFACE s_axilite port = vr
#pragma HLS INTERFACE s_axilite port = vg
#pragma HLS INTERFACE s_axilite port = vb
#pragma HLS INTERFACE s_axilite port = black
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words in("in"), luma("luma"), firsts("firsts"), seconds("seconds");
    Numbers pixels("pixels"), lumas("lumas"), ones("ones"), others("others");
// A row of chroma waits for the row of luma that it is made with.
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = pixels depth = 64
#pragma HLS STREAM variable = lumas depth = 64
#pragma HLS STREAM variable = ones depth = 64
#pragma HLS STREAM variable = others depth = 64
#pragma HLS STREAM variable = luma depth = 64
#pragma HLS STREAM variable = firsts depth = 4096
#pragma HLS STREAM variable = seconds depth = 4096
    bool in_pairs = chroma_step == 2, is_cb_first = cb_at < cr_at;
    unsigned columns = (width + 1) / 2, rows = (height + 1) / 2;
    Factors y = {yr, yg, yb}, cb = {ur, ug, ub}, cr = {vr, vg, vb};
    read_rows(src, in, 0, width * src_step, height, src_stride);
    unpack_pixels(in, pixels, width, height, src_step);
    to_yuv(pixels, lumas, ones, others, width, height, red_at, in_pairs, is_cb_first, y, cb, cr,
           black);
    pack_rows(lumas, luma, width, height);
    pack_pixels(ones, firsts, columns, rows, chroma_step);
    pack_rows(others, seconds, columns, in_pairs ? 0 : rows);
    write_planes(luma, firsts, seconds, dst, width, height, luma_stride,
                 is_cb_first ? cb_at : cr_at, is_cb_first ? cr_at : cb_at, chroma_stride,
                 in_pairs);
}
