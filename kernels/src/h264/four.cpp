// The form of four.cl for FPGA cards: a dataflow of blocks, all modes of a sample each clock.
#include "../rows.hpp"

typedef hls::stream<uchar> Samples;

static const unsigned MODES = 9;

// What lies around a block: 0 to 3 up its left side, 4 the corner, 5 to 12 above.
struct Edge {
    uchar at[13];
    bool has_left, has_above;
};
typedef hls::stream<Edge> EdgeStream;

// A block that was chosen, a byte for its mode first.
struct Chosen {
    uchar mode, samples[16];
};
typedef hls::stream<Chosen> Choices;

static void load(const ap_uint<8> *from, Samples &out, unsigned columns, unsigned rows,
                 unsigned stride)
{
    for (unsigned block = 0; block < columns * rows; block++) {
        for (unsigned i = 0; i < 16; i++) {
#pragma HLS PIPELINE II = 1
            unsigned x = block % columns * 4 + i % 4, y = block / columns * 4 + i / 4;
            out.write((uchar)from[y * stride + x].to_uint());
        }
    }
}

static void load_edges(const ap_uint<8> *around, EdgeStream &out, unsigned columns, unsigned rows,
                       unsigned stride)
{
    for (unsigned block = 0; block < columns * rows; block++) {
        unsigned bx = block % columns, by = block / columns, at = 4 * by * stride + 4 * bx;
        Edge edge;
        edge.has_left = bx > 0;
        edge.has_above = by > 0;
        // Blocks of a macroblock whose neighbour there is coded before them.
        bool has_right = bx + 1 < columns && (0x575Fu >> (by % 4 * 4 + bx % 4) & 1);
        for (unsigned i = 0; i < 13; i++) {
#pragma HLS PIPELINE II = 1
            unsigned along = i < 5 ? 0 : has_right || i < 8 ? i - 5 : 3;
            bool is_there = (i > 4 || edge.has_left) && (i < 4 || edge.has_above);
            unsigned place = i < 4 ? at + (3 - i) * stride - 1 : at - stride + along - (i == 4);
            edge.at[i] = 0;
            if (is_there)
                edge.at[i] = (uchar)around[place].to_uint();
        }
        out.write(edge);
    }
}

static int two(const Edge &e, int i)
{
#pragma HLS INLINE
    return (e.at[i] + e.at[i + 1] + 1) >> 1;
}

static int three(const Edge &e, int i)
{
#pragma HLS INLINE
    return (e.at[i - 1] + 2 * e.at[i] + e.at[i + 1] + 2) >> 2;
}

static int predicted_at(const Edge &e, unsigned mode, int mean, int x, int y)
{
#pragma HLS INLINE
    switch (mode) {
    case 0:
        return e.at[5 + x];
    case 1:
        return e.at[3 - y];
    case 2:
        return mean;
    case 3:
        return x + y == 6 ? (e.at[11] + 3 * e.at[12] + 2) >> 2 : three(e, 6 + x + y);
    case 4:
        return three(e, 4 + x - y);
    case 5:
        if (2 * x + 1 < y)
            return three(e, 5 - y);
        if (2 * x + 1 == y)
            return three(e, 4);
        return y % 2 ? three(e, 4 + x - y / 2) : two(e, 4 + x - y / 2);
    case 6:
        if (2 * y + 1 < x)
            return three(e, 3 + x);
        if (2 * y + 1 == x)
            return three(e, 4);
        return x % 2 ? three(e, 4 + x / 2 - y) : two(e, 3 + x / 2 - y);
    case 7:
        return y % 2 ? three(e, 6 + x + y / 2) : two(e, 5 + x + y / 2);
    default:
        if (x + 2 * y > 5)
            return e.at[0];
        if (x + 2 * y == 5)
            return (e.at[1] + 3 * e.at[0] + 2) >> 2;
        return x % 2 ? three(e, 2 - y - x / 2) : two(e, 2 - y - x / 2);
    }
}

static int mean_of(const Edge &e)
{
#pragma HLS INLINE
    int left = e.at[0] + e.at[1] + e.at[2] + e.at[3];
    int above = e.at[5] + e.at[6] + e.at[7] + e.at[8];
    if (e.has_left && e.has_above)
        return (left + above + 4) >> 3;
    return e.has_left || e.has_above ? (left + above + 2) >> 2 : 128;
}

static void choose(Samples &given, EdgeStream &edges, Choices &out, unsigned blocks)
{
    for (unsigned block = 0; block < blocks; block++) {
        Edge edge = edges.read();
        int mean = mean_of(edge);
        unsigned differences[MODES];
#pragma HLS ARRAY_PARTITION variable = differences complete
        for (unsigned mode = 0; mode < MODES; mode++) {
#pragma HLS UNROLL
            differences[mode] = 0;
        }
        for (unsigned i = 0; i < 16; i++) {
#pragma HLS PIPELINE II = 1
            int sample = given.read();
            for (unsigned mode = 0; mode < MODES; mode++) {
#pragma HLS UNROLL
                int off = predicted_at(edge, mode, mean, (int)(i % 4), (int)(i / 4)) - sample;
                differences[mode] += (unsigned)(off < 0 ? -off : off);
            }
        }
        unsigned best = 2;
        for (unsigned mode = 0; mode < MODES; mode++) {
#pragma HLS UNROLL
            bool needs_left = mode != 0 && mode != 2 && mode != 3 && mode != 7;
            bool needs_above = mode != 1 && mode != 2 && mode != 8;
            if ((needs_left && !edge.has_left) || (needs_above && !edge.has_above))
                continue;
            bool is_better = differences[mode] < differences[best];
            if (is_better || (differences[mode] == differences[best] && mode < best))
                best = mode;
        }
        Chosen chosen;
        chosen.mode = (uchar)best;
        for (unsigned i = 0; i < 16; i++) {
#pragma HLS PIPELINE II = 1
            chosen.samples[i] =
                (uchar)predicted_at(edge, best, mean, (int)(i % 4), (int)(i / 4));
        }
        out.write(chosen);
    }
}

static void store(Choices &in, ap_uint<8> *modes, ap_uint<8> *predicted, unsigned columns,
                  unsigned rows, unsigned stride)
{
    for (unsigned block = 0; block < columns * rows; block++) {
        Chosen chosen = in.read();
        modes[block] = chosen.mode;
        for (unsigned i = 0; i < 16; i++) {
#pragma HLS PIPELINE II = 1
            unsigned x = block % columns * 4 + i % 4, y = block / columns * 4 + i / 4;
            predicted[y * stride + x] = chosen.samples[i];
        }
    }
}

extern "C" void h264_four(const ap_uint<8> *given, const ap_uint<8> *around, ap_uint<8> *modes,
                          ap_uint<8> *predicted, unsigned columns, unsigned rows,
                          unsigned given_stride, unsigned around_stride,
                          unsigned predicted_stride)
{
#pragma HLS INTERFACE m_axi port = given bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = around bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = modes bundle = gmem2 offset = slave
#pragma HLS INTERFACE m_axi port = predicted bundle = gmem3 offset = slave
#pragma HLS INTERFACE s_axilite port = columns
#pragma HLS INTERFACE s_axilite port = rows
#pragma HLS INTERFACE s_axilite port = given_stride
#pragma HLS INTERFACE s_axilite port = around_stride
#pragma HLS INTERFACE s_axilite port = predicted_stride
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Samples in("in");
    EdgeStream edges("edges");
    Choices chosen("chosen");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = edges depth = 4
#pragma HLS STREAM variable = chosen depth = 4
    load(given, in, columns, rows, given_stride);
    load_edges(around, edges, columns, rows, around_stride);
    choose(in, edges, chosen, columns * rows);
    store(chosen, modes, predicted, columns, rows, predicted_stride);
}
