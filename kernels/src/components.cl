// A forest over the samples of a mask: `parents` has, for each sample that is set, 1 and the number
// of another one of its component or its own, never a larger one; 0 for the others.

// The number of the root above sample `at`, which is set.
FN uint root(GLOBAL const uint *parents, uint at)
{
    uint next = parents[at] - 1;
    while (next < at) {
        at = next;
        next = parents[at] - 1;
    }
    return at;
}

// The same while others change the forest.
FN uint shared_root(GLOBAL uint *parents, uint at)
{
    uint next = ATOMIC_ADD(parents + at, 0u) - 1;
    while (next < at) {
        at = next;
        next = ATOMIC_ADD(parents + at, 0u) - 1;
    }
    return at;
}

// One tree of the two that have these samples. Each turn ends with a smaller `larger`.
FN void join(GLOBAL uint *parents, uint a, uint b)
{
    for (;;) {
        a = shared_root(parents, a);
        b = shared_root(parents, b);
        if (a == b)
            return;
        uint larger = MAX(a, b), less = MIN(a, b);
        uint old = ATOMIC_MIN(parents + larger, less + 1) - 1;
        if (old >= larger)
            return;
        a = old;
        b = less;
    }
}

#define CHUNK 64u
#define CHUNKS(count) (((count) + CHUNK - 1) / CHUNK)

// One group per row, an item per stretch of 64 samples: runs within a stretch.
KERNEL void component_runs(GLOBAL const uchar *restrict mask, GLOBAL uint *restrict parents,
                           uint width, uint height, uint stride)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL const uchar *row = mask + (size_t)y * stride;
    COLUMNS(chunk, CHUNKS(width)) {
        uint end = MIN((chunk + 1) * CHUNK, width), first = chunk * CHUNK;
        for (uint x = first; x < end; x++) {
            if (row[x] == 0)
                first = x + 1;
            parents[(size_t)y * width + x] = row[x] == 0 ? 0 : y * width + first + 1;
        }
    }
}

// One group per row: joins runs with what they touch to the left and above.
KERNEL void component_join(GLOBAL const uchar *restrict mask, GLOBAL uint *restrict parents,
                           uint width, uint height, uint stride, uint diagonal)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL const uchar *row = mask + (size_t)y * stride;
    GLOBAL const uchar *above = mask + (size_t)(y == 0 ? 0 : y - 1) * stride;
    COLUMNS(x, width) {
        uint at = y * width + x;
        if (row[x] == 0)
            continue;
        int left = x > 0 && row[x - 1] != 0, up = y > 0 && above[x] != 0;
        int up_left = y > 0 && x > 0 && above[x - 1] != 0;
        int right = x + 1 < width && row[x + 1] != 0;
        int up_right = y > 0 && x + 1 < width && above[x + 1] != 0;
        if (left && x % CHUNK == 0)
            join(parents, at, at - 1);
        if (up && !(left && up_left))
            join(parents, at, at - width);
        if (!diagonal || up)
            continue;
        if (up_left && !left)
            join(parents, at, at - width - 1);
        if (up_right && !right)
            join(parents, at, at - width + 1);
    }
}

// One group per row.
KERNEL void component_roots(GLOBAL const uint *restrict parents, GLOBAL uint *restrict roots,
                            uint width, uint height)
{
    uint y = ROW;
    if (y >= height)
        return;
    COLUMNS(x, width) {
        uint at = y * width + x;
        roots[at] = parents[at] == 0 ? 0 : root(parents, at) + 1;
    }
}

// One item per row: how many roots it has.
KERNEL void component_count(GLOBAL const uint *restrict roots, GLOBAL uint *restrict counts,
                            uint width, uint height)
{
    uint y = ITEM;
    if (y >= height)
        return;
    uint count = 0;
    for (uint x = 0; x < width; x++)
        count += roots[(size_t)y * width + x] == y * width + x + 1;
    counts[y] = count;
}

// One item per row: at each root, its place among all roots, from 1 on. Nothing elsewhere.
KERNEL void component_number(GLOBAL const uint *restrict roots,
                             GLOBAL const uint *restrict counts, GLOBAL uint *restrict numbers,
                             uint width, uint height)
{
    uint y = ITEM;
    if (y >= height)
        return;
    uint number = 0;
    for (uint above = 0; above < y; above++)
        number += counts[above];
    for (uint x = 0; x < width; x++)
        if (roots[(size_t)y * width + x] == y * width + x + 1)
            numbers[(size_t)y * width + x] = ++number;
}

// One group per row.
KERNEL void component_labels(GLOBAL const uint *restrict numbers, GLOBAL uint *restrict labels,
                             uint width, uint height)
{
    uint y = ROW;
    if (y >= height)
        return;
    COLUMNS(x, width) {
        uint at = y * width + x, root = labels[at];
        if (root != 0 && root <= at + 1)
            labels[at] = numbers[root - 1];
    }
}
