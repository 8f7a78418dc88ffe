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

FN int expanded(int v, int most, int half)
{
    return (MIN(MAX(v, 16), most) - 16) * 255 + half;
}

FN void transform(const int *s, GLOBAL const int *factors, GLOBAL short *to)
{
    int t[64];
    for (int u = 0; u < 8; u++)
        for (int x = 0; x < 8; x++) {
            int sum = 1 << 6;
            for (int y = 0; y < 8; y++)
                sum += COSINES[8 * u + y] * s[8 * y + x];
            t[8 * u + x] = sum >> 7;
        }
    for (int i = 0; i < 64; i++) {
        int u = ZIGZAG[i] / 8, v = ZIGZAG[i] % 8, sum = 1 << 15;
        for (int x = 0; x < 8; x++)
            sum += COSINES[8 * v + x] * t[8 * u + x];
        int c = sum >> 16;
        int level = MIN(((c < 0 ? -c : c) * factors[8 * u + v] + (1 << 19)) >> 20, 1023);
        to[i] = (short)(c < 0 ? -level : level);
    }
}

KERNEL void jpeg(GLOBAL const int *restrict quantiser, GLOBAL const uchar *restrict frame,
                 GLOBAL short *restrict levels, uint width, uint height, uint stride,
                 uint chroma_offset, uint chroma_stride, uint limited)
{
    uint columns = (width + 15) / 16, rows = (height + 15) / 16;
    uint mcu = ITEM;
    if (mcu >= columns * rows)
        return;
    uint mx = mcu % columns, my = mcu / columns;
    GLOBAL short *to = levels + (size_t)mcu * 384;
    uint half_width = (width + 1) / 2, half_height = (height + 1) / 2;
    int s[64];
    for (uint block = 0; block < 6; block++) {
        for (uint i = 0; i < 64; i++) {
            int v;
            if (block < 4) {
                uint x = MIN(mx * 16 + (block & 1) * 8 + i % 8, width - 1);
                uint y = MIN(my * 16 + (block >> 1) * 8 + i / 8, height - 1);
                v = frame[(size_t)y * stride + x];
                v = limited ? expanded(v, 235, 109) / 219 : v;
            } else {
                uint x = MIN(mx * 8 + i % 8, half_width - 1);
                uint y = MIN(my * 8 + i / 8, half_height - 1);
                v = frame[chroma_offset + (size_t)y * chroma_stride + 2 * x + block - 4];
                v = limited ? expanded(v, 240, 112) / 224 : v;
            }
            s[i] = v - 128;
        }
        transform(s, quantiser + (block < 4 ? 0 : 64), to + 64 * block);
    }
}
