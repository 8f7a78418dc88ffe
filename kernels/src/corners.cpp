// The form of corners.cl for FPGA cards: a sample every second clock.
#include "numbers.hpp"

struct Column {
    unsigned above, here, below;
};
typedef hls::stream<Column> Columns;

// A column and those beside it.
struct Around {
    Column left, here, right;

    // Takes column x of a row; then it is around column x - 1, mirrored at the ends.
    void take(Columns &in, unsigned x, unsigned width)
    {
#pragma HLS INLINE
        left = here;
        here = right;
        if (x < width)
            right = in.read();
        else
            right = width > 1 ? left : here;
        if (x == 1)
            left = width > 1 ? right : here;
    }
};

static const Column ZEROS = {0, 0, 0};
static const Around NOTHING = {ZEROS, ZEROS, ZEROS};

// Each sample with the one above and the one below it, mirrored at the ends.
static void columns(Numbers &in, Columns &out, unsigned width, unsigned height)
{
    unsigned lines[3][SIDE_MAX + 1];
#pragma HLS ARRAY_PARTITION variable = lines complete dim = 1
    for (unsigned y = 0; y < height + 1; y++) {
        // Row y comes in, row y - 1 goes out.
        for (unsigned x = 0; x < width && y < height; x++) {
#pragma HLS PIPELINE II = 1
            lines[y % 3][x] = in.read();
        }
        if (y == 0)
            continue;
        unsigned from[3];
        for (int i = 0; i < 3; i++)
            from[i] = (unsigned)mirrored((int)y - 2 + i, height) % 3;
        for (unsigned x = 0; x < width; x++) {
#pragma HLS PIPELINE II = 1
            Column column = {lines[from[0]][x], lines[from[1]][x], lines[from[2]][x]};
            out.write(column);
        }
    }
}

// Both gradients of each sample, gx in the lower 16 bits.
static void gradients(Columns &in, Numbers &out, unsigned width, unsigned height)
{
    for (unsigned y = 0; y < height; y++) {
        Around a = NOTHING;
        for (unsigned x = 0; x <= width; x++) {
#pragma HLS PIPELINE II = 1
            a.take(in, x, width);
            unsigned gx = a.right.above + 2 * a.right.here + a.right.below - a.left.above -
                          2 * a.left.here - a.left.below;
            unsigned gy = a.left.below + 2 * a.here.below + a.right.below - a.left.above -
                          2 * a.here.above - a.right.above;
            if (x > 0)
                out.write((gx & 0xFFFF) | gy << 16);
        }
    }
}

struct Products {
    int xx, yy, xy;

    void add(unsigned both)
    {
#pragma HLS INLINE
        int gx = (short)(both & 0xFFFF), gy = (short)(both >> 16);
        xx += gx * gx;
        yy += gy * gy;
        xy += gx * gy;
    }

    void add(const Column &column)
    {
#pragma HLS INLINE
        add(column.above);
        add(column.here);
        add(column.below);
    }
};

static void strengths(Columns &in, Numbers &out, unsigned width, unsigned height, unsigned shift)
{
    for (unsigned y = 0; y < height; y++) {
        Around around = NOTHING;
        for (unsigned x = 0; x <= width; x++) {
#pragma HLS PIPELINE II = 1
            around.take(in, x, width);
            Products sums = {0, 0, 0};
            sums.add(around.left);
            sums.add(around.here);
            sums.add(around.right);
            int a = sums.xx >> 8, b = sums.yy >> 8, c = sums.xy >> 8, trace = (a + b) >> 2;
            if (x > 0)
                out.write(clamped((a * b - c * c - trace * trace) >> shift));
        }
    }
}

extern "C" void corners(const Word *src, Word *dst, unsigned width, unsigned height,
                        unsigned src_stride, unsigned dst_stride, unsigned shift)
{
#pragma HLS INTERFACE m_axi port = src bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = src_stride
#pragma HLS INTERFACE s_axilite port = dst_stride
#pragma HLS INTERFACE s_axilite port = shift
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words in("in"), out("out");
    Numbers samples("samples"), slopes("slopes"), bytes("bytes");
    Columns sample_columns("sample_columns"), slope_columns("slope_columns");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = samples depth = 64
#pragma HLS STREAM variable = sample_columns depth = 64
#pragma HLS STREAM variable = slopes depth = 64
#pragma HLS STREAM variable = slope_columns depth = 64
#pragma HLS STREAM variable = bytes depth = 64
#pragma HLS STREAM variable = out depth = 64
    read_rows(src, in, 0, width, height, src_stride);
    unpack_rows(in, samples, width, height);
    columns(samples, sample_columns, width, height);
    gradients(sample_columns, slopes, width, height);
    columns(slopes, slope_columns, width, height);
    strengths(slope_columns, bytes, width, height, shift);
    pack_rows(bytes, out, width, height);
    write_rows(out, dst, 0, width, height, dst_stride);
}
