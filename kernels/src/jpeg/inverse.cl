// One item per MCU.
TABLE int COSINES[64] = {
    2896, 2896, 2896, 2896, 2896, 2896, 2896, 2896,
    4017, 3406, 2276, 799, -799, -2276, -3406, -4017,
    3784, 1567, -1567, -3784, -3784, -1567, 1567, 3784,
    3406, -799, -4017, -2276, 2276, 4017, 799, -3406,
    2896, -2896, -2896, 2896, 2896, -2896, -2896, 2896,
    2276, -4017, 799, 3406, -3406, -799, 4017, -2276,
    1567, -3784, 3784, -1567, -1567, 3784, -3784, 1567,
    799, -2276, 3406, -4017, 4017, -3406, 2276, -799,
};

TABLE uchar ZIGZAG[64] = {
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
};

// A block of levels as samples, `step` bytes apart: as many columns and rows of it as there are.
FN void inverse(GLOBAL const short *levels, GLOBAL const uint *steps, GLOBAL uchar *to,
                uint stride, uint step, uint columns, uint rows)
{
    int c[64];
    for (uint i = 0; i < 64; i++) {
        uint at = ZIGZAG[i];
        c[at] = MIN(MAX(levels[i] * (int)(steps[at] & 255), -2048), 2047);
    }
    for (uint u = 0; u < 8; u++) {
        int t[8];
        for (uint x = 0; x < 8; x++) {
            int sum = 1 << 8;
            for (uint v = 0; v < 8; v++)
                sum += COSINES[8 * v + x] * c[8 * u + v];
            t[x] = sum >> 9;
        }
        for (uint x = 0; x < 8; x++)
            c[8 * u + x] = t[x];
    }
    for (uint y = 0; y < rows; y++)
        for (uint x = 0; x < columns; x++) {
            int sum = 1 << 16;
            for (uint u = 0; u < 8; u++)
                sum += COSINES[8 * u + y] * c[8 * u + x];
            to[(size_t)y * stride + x * step] = BYTE((sum >> 17) + 128);
        }
}

KERNEL void jpeg_inverse(GLOBAL const uint *restrict steps, GLOBAL const short *restrict levels,
                         GLOBAL uchar *restrict frame, uint width, uint height, uint stride,
                         uint chroma_offset, uint chroma_stride)
{
    uint columns = (width + 15) / 16, rows = (height + 15) / 16;
    uint mcu = ITEM;
    if (mcu >= columns * rows)
        return;
    uint mx = mcu % columns, my = mcu / columns;
    GLOBAL const short *from = levels + (size_t)mcu * 384;
    for (uint block = 0; block < 4; block++) {
        uint x = mx * 16 + (block & 1) * 8, y = my * 16 + (block >> 1) * 8;
        if (x < width && y < height)
            inverse(from + 64 * block, steps, frame + (size_t)y * stride + x, stride, 1,
                    MIN(8u, width - x), MIN(8u, height - y));
    }
    uint x = mx * 8, y = my * 8, half_width = (width + 1) / 2, half_height = (height + 1) / 2;
    for (uint which = 0; which < 2; which++)
        inverse(from + 256 + 64 * which, steps + 64,
                frame + chroma_offset + (size_t)y * chroma_stride + 2 * x + which, chroma_stride, 2,
                MIN(8u, half_width - x), MIN(8u, half_height - y));
}
