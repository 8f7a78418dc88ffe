// One work-item per row of blocks.
#define BLOCK 16u

KERNEL void score(__global const uchar *restrict mask, __global uint *restrict grid, uint width,
                  uint height, uint stride)
{
    uint block_y = get_global_id(0);
    uint rows = (height + BLOCK - 1) / BLOCK;
    if (block_y >= rows)
        return;
    uint columns = (width + BLOCK - 1) / BLOCK, whole = width / BLOCK;
    __global uint *counts = grid + (size_t)block_y * columns;
    for (uint i = 0; i < columns; i++)
        counts[i] = 0;
    uint bottom = min((block_y + 1) * BLOCK, height);
    for (uint y = block_y * BLOCK; y < bottom; y++) {
        __global const uchar *row = mask + (size_t)y * stride;
        for (uint i = 0; i < whole; i++) {
            uchar16 unset = as_uchar16(vload16(i, row) == (uchar16)0);
            uchar8 by8 = (unset.lo & (uchar8)1) + (unset.hi & (uchar8)1);
            uchar4 by4 = by8.lo + by8.hi;
            uchar2 by2 = by4.lo + by4.hi;
            counts[i] += BLOCK - (uint)(by2.lo + by2.hi);
        }
        for (uint x = whole * BLOCK; x < width; x++)
            counts[whole] += row[x] != 0;
    }
}
