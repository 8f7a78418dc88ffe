// One item per block. Multipliers and steps of the six kinds of places, by qp % 6.
TABLE int FACTORS[36] = {
    13107, 11428, 20972, 12222, 16777, 15481, 11916, 10826, 19174, 11058, 14980, 14290,
    10082, 8943, 15978, 9675, 12710, 11985, 9362, 8228, 14913, 8931, 11984, 11259,
    8192, 7346, 13159, 7740, 10486, 9777, 7282, 6428, 11570, 6830, 9118, 8640,
};

TABLE int STEPS[36] = {
    20, 18, 32, 19, 25, 24, 22, 19, 35, 21, 28, 26, 26, 23, 42, 24, 33, 31,
    28, 25, 45, 26, 35, 33, 32, 28, 51, 30, 40, 38, 36, 32, 58, 34, 46, 43,
};

// Of a place, by the last two bits of its row and column.
TABLE uchar KINDS[16] = {
    0, 3, 4, 3, 3, 1, 5, 1, 4, 5, 2, 5, 3, 1, 5, 1,
};

TABLE uchar ZIGZAG[64] = {
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
};

// Eight numbers `step` apart.
FN void forward(int *d, uint step)
{
    int s07 = d[0] + d[7 * step], s16 = d[step] + d[6 * step];
    int s25 = d[2 * step] + d[5 * step], s34 = d[3 * step] + d[4 * step];
    int d07 = d[0] - d[7 * step], d16 = d[step] - d[6 * step];
    int d25 = d[2 * step] - d[5 * step], d34 = d[3 * step] - d[4 * step];
    int a0 = s07 + s34, a1 = s16 + s25, a2 = s07 - s34, a3 = s16 - s25;
    int a4 = d16 + d25 + d07 + (d07 >> 1), a5 = d07 - d34 - d25 - (d25 >> 1);
    int a6 = d07 + d34 - d16 - (d16 >> 1), a7 = d16 - d25 + d34 + (d34 >> 1);
    d[0] = a0 + a1;
    d[step] = a4 + (a7 >> 2);
    d[2 * step] = a2 + (a3 >> 1);
    d[3 * step] = a5 + (a6 >> 2);
    d[4 * step] = a0 - a1;
    d[5 * step] = a6 - (a5 >> 2);
    d[6 * step] = (a2 >> 1) - a3;
    d[7 * step] = (a4 >> 2) - a7;
}

FN void inverse(int *d, uint step)
{
    int s0 = d[0], s1 = d[step], s2 = d[2 * step], s3 = d[3 * step];
    int s4 = d[4 * step], s5 = d[5 * step], s6 = d[6 * step], s7 = d[7 * step];
    int a0 = s0 + s4, a2 = s0 - s4, a4 = (s2 >> 1) - s6, a6 = (s6 >> 1) + s2;
    int b0 = a0 + a6, b2 = a2 + a4, b4 = a2 - a4, b6 = a0 - a6;
    int a1 = s5 - s3 - s7 - (s7 >> 1), a3 = s1 + s7 - s3 - (s3 >> 1);
    int a5 = s7 - s1 + s5 + (s5 >> 1), a7 = s3 + s5 + s1 + (s1 >> 1);
    int b1 = a1 + (a7 >> 2), b3 = a3 + (a5 >> 2), b5 = (a3 >> 2) - a5, b7 = a7 - (a1 >> 2);
    d[0] = b0 + b7;
    d[step] = b2 + b5;
    d[2 * step] = b4 + b3;
    d[3 * step] = b6 + b1;
    d[4 * step] = b6 - b1;
    d[5 * step] = b4 - b3;
    d[6 * step] = b2 - b5;
    d[7 * step] = b0 - b7;
}

KERNEL void h264_eight(GLOBAL const uchar *restrict given, GLOBAL const uchar *restrict predicted,
                       GLOBAL short *restrict levels, GLOBAL uchar *restrict rebuilt,
                       uint columns, uint rows, uint given_stride, uint predicted_stride,
                       uint rebuilt_stride, uint qp, uint intra)
{
    uint block = ITEM;
    if (block >= columns * rows)
        return;
    uint left = block % columns * 8, top = block / columns * 8;
    GLOBAL const uchar *from = given + (size_t)top * given_stride + left;
    GLOBAL const uchar *expected = predicted + (size_t)top * predicted_stride + left;
    GLOBAL uchar *to = rebuilt + (size_t)top * rebuilt_stride + left;
    GLOBAL short *coded = levels + (size_t)block * 64;
    int d[64];
    for (uint i = 0; i < 64; i++)
        d[i] = (int)from[(size_t)(i / 8) * given_stride + i % 8] -
               (int)expected[(size_t)(i / 8) * predicted_stride + i % 8];
    for (uint x = 0; x < 8; x++)
        forward(d + x, 8);
    for (uint y = 0; y < 8; y++)
        forward(d + 8 * y, 1);
    int up = qp / 6, shift = 16 + up, bias = (1 << shift) / (intra ? 3 : 6);
    for (uint i = 0; i < 64; i++) {
        uint at = ZIGZAG[i], number = qp % 6 * 6 + KINDS[at / 8 % 4 * 4 + at % 4];
        int c = d[at], size = ((c < 0 ? -c : c) * FACTORS[number] + bias) >> shift;
        int level = c < 0 ? -size : size, product = level * 16 * STEPS[number];
        coded[i] = (short)level;
        d[at] = up < 6 ? (product + (1 << (5 - up))) >> (6 - up) : product * (1 << (up - 6));
    }
    for (uint y = 0; y < 8; y++)
        inverse(d + 8 * y, 1);
    for (uint x = 0; x < 8; x++)
        inverse(d + x, 8);
    for (uint i = 0; i < 64; i++) {
        int sample = (int)expected[(size_t)(i / 8) * predicted_stride + i % 8];
        to[(size_t)(i / 8) * rebuilt_stride + i % 8] = BYTE(sample + ((d[i] + 32) >> 6));
    }
}
