// One group per row; `counts` is added to.
KERNEL void histogram(GLOBAL const uchar *restrict src, GLOBAL uint *restrict counts, uint width,
                      uint height, uint stride)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL const uchar *from = src + (size_t)y * stride;
    COLUMNS(x, width)
        ATOMIC_ADD(counts + from[x], 1u);
}

// One item for all.
KERNEL void equaliser(GLOBAL const uint *restrict counts, GLOBAL uchar *restrict table,
                      uint pixels)
{
    if (ITEM != 0)
        return;
    uint lowest = 0;
    while (lowest < 255 && counts[lowest] == 0)
        lowest++;
    ulong above = pixels - counts[lowest], sum = 0;
    for (uint level = 0; level < 256; level++) {
        if (level > lowest)
            sum += counts[level];
        ulong value = above ? (255 * sum + above / 2) / above : (ulong)level;
        table[level] = (uchar)MIN(value, (ulong)255);
    }
}

FN uchar lookup_of(GLOBAL const uchar *restrict table, uchar sample)
{
    return table[sample];
}

// One group per row.
KERNEL void lookup(GLOBAL const uchar *restrict table, GLOBAL const uchar *restrict src,
                   GLOBAL uchar *restrict dst, uint width, uint height, uint offset,
                   uint src_stride, uint dst_stride)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL const uchar *from = src + offset + (size_t)y * src_stride;
    GLOBAL uchar *to = dst + offset + (size_t)y * dst_stride;
    COLUMNS(x, width)
        to[x] = lookup_of(table, from[x]);
}
