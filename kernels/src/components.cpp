// The forms of components.cl for FPGA cards: one pipeline does in order what many threads do there
// with atomics.
#include "numbers.hpp"

static const unsigned CHUNK = 64;

static void find_runs(Numbers &in, Numbers &out, unsigned width, unsigned height)
{
    for (unsigned y = 0; y < height; y++) {
        unsigned parent = 0;
        for (unsigned x = 0; x < width; x++) {
#pragma HLS PIPELINE II = 1
            bool is_set = in.read() != 0;
            if (parent == 0 || x % CHUNK == 0)
                parent = y * width + x + 1;
            if (!is_set)
                parent = 0;
            out.write(parent);
        }
    }
}

// The root above sample `at`. Ways are made shorter as they are gone.
static unsigned root(unsigned *parents, unsigned at)
{
    unsigned next = parents[at] - 1;
    while (next < at) {
        unsigned above = parents[next];
        parents[at] = above;
        at = next;
        next = above - 1;
    }
    return at;
}

struct Touch {
    unsigned a, b;
};

// Gives each sample a parent it touches, or that of one; then, row by row, joins the trees that
// turn out to touch. Only these few are looked for all over memory.
static void link(Numbers &in, unsigned *parents, unsigned width, unsigned height,
                 unsigned diagonal)
{
    unsigned lines[2][SIDE_MAX];
    bool row[SIDE_MAX];
    Touch touches[SIDE_MAX];
#pragma HLS ARRAY_PARTITION variable = lines complete dim = 1
    for (unsigned y = 0; y < height; y++) {
        unsigned start = y * width, here = y % 2, above = 1 - here, count = 0;
        for (unsigned x = 0; x < width; x++) {
#pragma HLS PIPELINE II = 1
            row[x] = in.read() != 0;
        }
        unsigned left = 0, up_left = 0, up = y > 0 ? lines[above][0] : 0;
        for (unsigned x = 0; x < width; x++) {
#pragma HLS PIPELINE II = 1
            bool right = x + 1 < width && row[x + 1];
            unsigned up_right = y > 0 && x + 1 < width ? lines[above][x + 1] : 0;
            // Those that are joined elsewhere are left out.
            unsigned first = left, second = 0, parent = 0;
            if (up != 0)
                second = left != 0 && up_left != 0 ? 0 : up;
            else if (diagonal) {
                first = left != 0 ? left : up_left;
                second = right ? 0 : up_right;
            }
            if (row[x]) {
                parent = first != 0 ? first : second != 0 ? second : start + x + 1;
                if (first != 0 && second != 0 && first != second) {
                    Touch touch = {first - 1, second - 1};
                    touches[count++] = touch;
                }
            }
            lines[here][x] = parent;
            left = parent;
            up_left = up;
            up = up_right;
        }
        for (unsigned x = 0; x < width; x++) {
#pragma HLS PIPELINE II = 1
            parents[start + x] = lines[here][x];
        }
        for (unsigned i = 0; i < count; i++) {
            unsigned a = root(parents, touches[i].a), b = root(parents, touches[i].b);
            if (a != b)
                parents[a > b ? a : b] = (a < b ? a : b) + 1;
        }
    }
}

static void count_roots(Numbers &in, Numbers &out, unsigned width, unsigned height)
{
    for (unsigned y = 0; y < height; y++) {
        unsigned count = 0;
        for (unsigned x = 0; x < width; x++) {
#pragma HLS PIPELINE II = 1
            count += in.read() == y * width + x + 1;
        }
        out.write(count);
    }
}

static void number_roots(Numbers &roots, Numbers &counts, unsigned *numbers, unsigned width,
                         unsigned height)
{
    unsigned above = 0;
    for (unsigned y = 0; y < height; y++) {
        unsigned number = above;
        for (unsigned x = 0; x < width; x++) {
#pragma HLS PIPELINE II = 1
            unsigned at = y * width + x;
            if (roots.read() == at + 1)
                numbers[at] = ++number;
        }
        above += counts.read();
    }
}

extern "C" void component_runs(const Word *mask, unsigned *parents, unsigned width,
                               unsigned height, unsigned stride)
{
#pragma HLS INTERFACE m_axi port = mask bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = parents bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = stride
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words in("in");
    Numbers samples("samples"), out("out");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = samples depth = 64
#pragma HLS STREAM variable = out depth = 64
    read_rows(mask, in, 0, width, height, stride);
    unpack_rows(in, samples, width, height);
    find_runs(samples, out, width, height);
    write_numbers(out, parents, width * height);
}

// All parents are made anew, so that what component_runs left is not read.
extern "C" void component_join(const Word *mask, unsigned *parents, unsigned width,
                               unsigned height, unsigned stride, unsigned diagonal)
{
#pragma HLS INTERFACE m_axi port = mask bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = parents bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = stride
#pragma HLS INTERFACE s_axilite port = diagonal
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Words in("in");
    Numbers samples("samples");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = samples depth = 64
    read_rows(mask, in, 0, width, height, stride);
    unpack_rows(in, samples, width, height);
    link(samples, parents, width, height, diagonal);
}

// Parents come before their children, so that their roots are known: those of rows above are in
// memory, those of the row in block RAM.
extern "C" void component_roots(const unsigned *parents, unsigned *roots, unsigned width,
                                unsigned height)
{
#pragma HLS INTERFACE m_axi port = parents bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = roots bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = return
    unsigned row[SIDE_MAX], line[SIDE_MAX];
    for (unsigned y = 0; y < height; y++) {
        unsigned start = y * width, known = 0, root = 0;
        for (unsigned x = 0; x < width; x++) {
#pragma HLS PIPELINE II = 1
            unsigned parent = parents[start + x];
            // Neighbours mostly have one parent.
            if (parent != 0 && parent <= start && parent != known) {
                known = parent;
                root = roots[parent - 1];
            }
            row[x] = parent;
            line[x] = root;
        }
        for (unsigned x = 0; x < width; x++) {
#pragma HLS PIPELINE II = 2
            unsigned parent = row[x], found = line[x];
            if (parent > start + x)
                found = start + x + 1;
            else if (parent > start)
                found = line[parent - 1 - start];
            line[x] = parent == 0 || found == 0 ? parent : found;
        }
        for (unsigned x = 0; x < width; x++) {
#pragma HLS PIPELINE II = 1
            roots[start + x] = line[x];
        }
    }
}

extern "C" void component_count(const unsigned *roots, unsigned *counts, unsigned width,
                                unsigned height)
{
#pragma HLS INTERFACE m_axi port = roots bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = counts bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Numbers in("in"), out("out");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = out depth = 64
    read_numbers(roots, in, width * height);
    count_roots(in, out, width, height);
    write_numbers(out, counts, height);
}

extern "C" void component_number(const unsigned *roots, const unsigned *counts,
                                 unsigned *numbers, unsigned width, unsigned height)
{
#pragma HLS INTERFACE m_axi port = roots bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = counts bundle = gmem1 offset = slave
#pragma HLS INTERFACE m_axi port = numbers bundle = gmem2 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Numbers from_roots("from_roots"), from_counts("from_counts");
#pragma HLS STREAM variable = from_roots depth = 64
#pragma HLS STREAM variable = from_counts depth = 64
    read_numbers(roots, from_roots, width * height);
    read_numbers(counts, from_counts, height);
    number_roots(from_roots, from_counts, numbers, width, height);
}

// The port of labels reads and writes, so that a row goes there and back before the next one comes.
extern "C" void component_labels(const unsigned *numbers, unsigned *labels, unsigned width,
                                 unsigned height)
{
#pragma HLS INTERFACE m_axi port = numbers bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = labels bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = return
    unsigned line[SIDE_MAX];
    for (unsigned y = 0; y < height; y++) {
        unsigned start = y * width, known = 0, label = 0;
        for (unsigned x = 0; x < width; x++) {
#pragma HLS PIPELINE II = 1
            unsigned root = labels[start + x];
            bool has_label = root != 0 && root <= start + x + 1;
            // Neighbours mostly have one root.
            if (has_label && root != known) {
                known = root;
                label = numbers[root - 1];
            }
            line[x] = has_label ? label : root;
        }
        for (unsigned x = 0; x < width; x++) {
#pragma HLS PIPELINE II = 1
            labels[start + x] = line[x];
        }
    }
}
