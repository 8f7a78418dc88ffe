// One group per row, of which one item works.
KERNEL void square_sums(GLOBAL const uchar *restrict a, GLOBAL const uchar *restrict b,
                        GLOBAL uint *restrict sums, uint width, uint height, uint a_stride,
                        uint b_stride)
{
    uint y = ROW;
    if (y >= height || LANE != 0)
        return;
    GLOBAL const uchar *from_a = a + (size_t)y * a_stride;
    GLOBAL const uchar *from_b = b + (size_t)y * b_stride;
    uint sum = 0;
    for (uint x = 0; x < width; x++) {
        int d = (int)from_a[x] - (int)from_b[x];
        sum += (uint)(d * d);
    }
    sums[y] = sum;
}

// One group per row of blocks.
KERNEL void ssim_blocks(GLOBAL const uchar *restrict a, GLOBAL const uchar *restrict b,
                        GLOBAL uint *restrict sums, uint width, uint height, uint a_stride,
                        uint b_stride)
{
    uint row = ROW, columns = width / 4;
    if (row >= height / 4)
        return;
    COLUMNS(x, columns) {
        uint sum_a = 0, sum_b = 0, squares = 0, products = 0;
        for (uint y = 4 * row; y < 4 * row + 4; y++) {
            for (uint i = 4 * x; i < 4 * x + 4; i++) {
                uint p = a[(size_t)y * a_stride + i], q = b[(size_t)y * b_stride + i];
                sum_a += p;
                sum_b += q;
                squares += p * p + q * q;
                products += p * q;
            }
        }
        GLOBAL uint *to = sums + 4 * ((size_t)row * columns + x);
        to[0] = sum_a;
        to[1] = sum_b;
        to[2] = squares;
        to[3] = products;
    }
}
