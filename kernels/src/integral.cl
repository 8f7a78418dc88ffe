// One item per row of the result.
KERNEL void integral_rows(GLOBAL const uchar *restrict src, GLOBAL uint *restrict dst, uint width,
                          uint height, uint stride)
{
    uint y = ITEM;
    if (y > height)
        return;
    GLOBAL uint *to = dst + (size_t)y * (width + 1);
    uint sum = 0;
    to[0] = 0;
    for (uint x = 0; x < width; x++) {
        sum += y == 0 ? 0 : src[(size_t)(y - 1) * stride + x];
        to[x + 1] = sum;
    }
}

// One item per column.
KERNEL void integral_columns(GLOBAL uint *restrict sums, uint width, uint height)
{
    uint x = ITEM;
    if (x > width)
        return;
    uint sum = 0;
    for (uint y = 0; y <= height; y++) {
        sum += sums[(size_t)y * (width + 1) + x];
        sums[(size_t)y * (width + 1) + x] = sum;
    }
}
