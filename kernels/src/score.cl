// One item per row of blocks.
#define BLOCK 16u

KERNEL void score(GLOBAL const uchar *restrict mask, GLOBAL uint *restrict grid, uint width,
                  uint height, uint stride)
{
    uint block_y = ITEM;
    uint rows = (height + BLOCK - 1) / BLOCK;
    if (block_y >= rows)
        return;
    uint columns = (width + BLOCK - 1) / BLOCK;
    GLOBAL uint *counts = grid + (size_t)block_y * columns;
    for (uint i = 0; i < columns; i++)
        counts[i] = 0;
    uint bottom = MIN((block_y + 1) * BLOCK, height);
    for (uint y = block_y * BLOCK; y < bottom; y++) {
        GLOBAL const uchar *row = mask + (size_t)y * stride;
        for (uint i = 0; i < columns; i++) {
            uint end = MIN((i + 1) * BLOCK, width), count = 0;
            for (uint x = i * BLOCK; x < end; x++)
                count += row[x] != 0;
            counts[i] += count;
        }
    }
}
