// A row of the sums: area, SIDE_MAX less the left and the top edge, the right and the lower edge,
// sums of columns and of rows (lower and upper half each), and in the first row the largest label.
#define SIDE_MAX 16384u
#define WORDS 10u
#define CHUNK 64u

FN void add_long(GLOBAL uint *to, uint value)
{
    if (ATOMIC_ADD(to, value) > 0xFFFFFFFFu - value)
        ATOMIC_ADD(to + 1, 1u);
}

// A run of a row, columns `first` to `end` less one.
FN void add_run(GLOBAL uint *to, uint first, uint end, uint y)
{
    uint count = end - first;
    ATOMIC_ADD(to, count);
    ATOMIC_MAX(to + 1, SIDE_MAX - first);
    ATOMIC_MAX(to + 2, SIDE_MAX - y);
    ATOMIC_MAX(to + 3, end);
    ATOMIC_MAX(to + 4, y + 1);
    add_long(to + 5, (first + end - 1) * count / 2);
    add_long(to + 7, y * count);
}

// One group per row, an item per stretch of 64 labels; `sums` is added to.
KERNEL void component_sums(GLOBAL const uint *restrict labels, GLOBAL uint *restrict sums,
                           uint width, uint height, uint rows)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL const uint *row = labels + (size_t)y * width;
    COLUMNS(chunk, (width + CHUNK - 1) / CHUNK) {
        uint first = chunk * CHUNK, end = MIN(first + CHUNK, width), largest = 0;
        for (uint x = first; x < end; x++) {
            uint label = row[x];
            largest = MAX(largest, label);
            if (x + 1 < end && row[x + 1] == label)
                continue;
            if (label < rows)
                add_run(sums + (size_t)label * WORDS, first, x + 1, y);
            first = x + 1;
        }
        ATOMIC_MAX(sums + WORDS - 1, largest);
    }
}

// One item per row of the table.
KERNEL void component_table(GLOBAL const uint *restrict sums, GLOBAL uint *restrict table,
                            uint rows)
{
    uint label = ITEM;
    if (label >= rows)
        return;
    GLOBAL const uint *from = sums + (size_t)label * WORDS;
    GLOBAL uint *to = table + (size_t)label * WORDS;
    uint area = from[0], left = SIDE_MAX - from[1], top = SIDE_MAX - from[2];
    to[0] = area;
    to[1] = area == 0 ? 0 : left;
    to[2] = area == 0 ? 0 : top;
    to[3] = area == 0 ? 0 : from[3] - left;
    to[4] = area == 0 ? 0 : from[4] - top;
    for (uint i = 5; i < 9; i++)
        to[i] = from[i];
    to[9] = label == 0 ? from[9] : (area == 0 ? 0 : label);
}
