// The forms of component_table.cl for FPGA cards: a run of labels every second clock.
#include "numbers.hpp"

static const unsigned FIELDS = 10, LABELS_MAX = 16384;

// A run of one label, columns `first` to `end` less one of a row.
struct Run {
    unsigned label, first, end;
};
typedef hls::stream<Run> Runs;

// A row of the table is all in one place: the whole table, 640 KiB, is in UltraRAM, a field in each
// bank, because the next run may have any label.
struct Table {
    unsigned fields[FIELDS][LABELS_MAX];
};

static void find_runs(Numbers &in, Runs &out, unsigned width, unsigned height)
{
    for (unsigned y = 0; y < height; y++) {
        Run run = {0, 0, 0};
        for (unsigned x = 0; x < width; x++) {
#pragma HLS PIPELINE II = 1
            unsigned label = in.read();
            if (x > 0 && label != run.label) {
                out.write(run);
                run.first = x;
            }
            run.label = label;
            run.end = x + 1;
        }
        out.write(run);
    }
}

static inline unsigned most(unsigned a, unsigned b) { return a > b ? a : b; }

static inline void add_long(unsigned &low, unsigned &high, unsigned value)
{
#pragma HLS INLINE
    low += value;
    high += low < value;
}

static void add_run(Table &table, const Run &run, unsigned y)
{
#pragma HLS INLINE
    unsigned count = run.end - run.first, fields[FIELDS - 1];
    for (unsigned i = 0; i < FIELDS - 1; i++) {
#pragma HLS UNROLL
        fields[i] = table.fields[i][run.label];
    }
    fields[0] += count;
    fields[1] = most(fields[1], SIDE_MAX - run.first);
    fields[2] = most(fields[2], SIDE_MAX - y);
    fields[3] = most(fields[3], run.end);
    fields[4] = most(fields[4], y + 1);
    add_long(fields[5], fields[6], (run.first + run.end - 1) * count / 2);
    add_long(fields[7], fields[8], y * count);
    for (unsigned i = 0; i < FIELDS - 1; i++) {
#pragma HLS UNROLL
        table.fields[i][run.label] = fields[i];
    }
}

static void add_runs(Runs &in, unsigned *sums, unsigned width, unsigned height, unsigned rows)
{
    Table table;
#pragma HLS ARRAY_PARTITION variable = table.fields complete dim = 1
#pragma HLS BIND_STORAGE variable = table.fields type = ram_t2p impl = uram
    for (unsigned i = 0; i < FIELDS * rows; i++) {
#pragma HLS PIPELINE II = 1
        table.fields[i % FIELDS][i / FIELDS] = sums[i];
    }
    unsigned largest = 0;
    for (unsigned y = 0; y < height; y++) {
        for (unsigned end = 0; end < width;) {
#pragma HLS PIPELINE II = 2
            Run run = in.read();
            if (run.label < rows)
                add_run(table, run, y);
            largest = most(largest, run.label);
            end = run.end;
        }
    }
    table.fields[FIELDS - 1][0] = most(table.fields[FIELDS - 1][0], largest);
    for (unsigned i = 0; i < FIELDS * rows; i++) {
#pragma HLS PIPELINE II = 1
        sums[i] = table.fields[i % FIELDS][i / FIELDS];
    }
}

static void finish(Numbers &in, Numbers &out, unsigned rows)
{
    for (unsigned label = 0; label < rows; label++) {
        unsigned from[FIELDS], to[FIELDS];
        for (unsigned i = 0; i < FIELDS; i++) {
#pragma HLS PIPELINE II = 1
            from[i] = to[i] = in.read();
        }
        to[1] = SIDE_MAX - from[1];
        to[2] = SIDE_MAX - from[2];
        to[3] = from[3] - to[1];
        to[4] = from[4] - to[2];
        to[9] = label == 0 ? from[9] : label;
        bool is_empty = from[0] == 0;
        for (unsigned i = 0; i < FIELDS; i++) {
#pragma HLS PIPELINE II = 1
            bool has_value = !is_empty || (i >= 5 && (i < 9 || label == 0));
            out.write(has_value ? to[i] : 0);
        }
    }
}

extern "C" void component_sums(const unsigned *labels, unsigned *sums, unsigned width,
                               unsigned height, unsigned rows)
{
#pragma HLS INTERFACE m_axi port = labels bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = sums bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = rows
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Numbers in("in");
    Runs runs("runs");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = runs depth = 64
    read_numbers(labels, in, width * height);
    find_runs(in, runs, width, height);
    add_runs(runs, sums, width, height, rows);
}

extern "C" void component_table(const unsigned *sums, unsigned *table, unsigned rows)
{
#pragma HLS INTERFACE m_axi port = sums bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = table bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = rows
#pragma HLS INTERFACE s_axilite port = return
#pragma HLS DATAFLOW
    Numbers in("in"), out("out");
#pragma HLS STREAM variable = in depth = 64
#pragma HLS STREAM variable = out depth = 64
    read_numbers(sums, in, FIELDS * rows);
    finish(in, out, rows);
    write_numbers(out, table, FIELDS * rows);
}
