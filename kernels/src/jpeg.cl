// One work-item per MCU. Vector lanes are the columns of a block, then the frequencies v.
__constant int COSINES[64] = {
    2896, 2896, 2896, 2896, 2896, 2896, 2896, 2896,
    4017, 3406, 2276, 799, -799, -2276, -3406, -4017,
    3784, 1567, -1567, -3784, -3784, -1567, 1567, 3784,
    3406, -799, -4017, -2276, 2276, 4017, 799, -3406,
    2896, -2896, -2896, 2896, 2896, -2896, -2896, 2896,
    2276, -4017, 799, 3406, -3406, -799, 4017, -2276,
    1567, -3784, 3784, -1567, -1567, 3784, -3784, 1567,
    799, -2276, 3406, -4017, 4017, -3406, 2276, -799,
};

// The same, transposed.
__constant int COLUMNS[64] = {
    2896, 4017, 3784, 3406, 2896, 2276, 1567, 799,
    2896, 3406, 1567, -799, -2896, -4017, -3784, -2276,
    2896, 2276, -1567, -4017, -2896, 799, 3784, 3406,
    2896, 799, -3784, -2276, 2896, 3406, -1567, -4017,
    2896, -799, -3784, 2276, 2896, -3406, -1567, 4017,
    2896, -2276, -1567, 4017, -2896, -799, 3784, -3406,
    2896, -3406, 1567, 799, -2896, 4017, -3784, 2276,
    2896, -4017, 3784, -3406, 2896, -2276, 1567, -799,
};

__constant uchar ZIGZAG[64] = {
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
};

uchar8 expand_luma(uchar8 y)
{
    ushort8 above_black = convert_ushort8(clamp(y, (uchar8)16, (uchar8)235)) - (ushort)16;
    return convert_uchar8((above_black * (ushort)255 + (ushort)109) / (ushort)219);
}

uchar8 expand_chroma(uchar8 c)
{
    ushort8 above = convert_ushort8(clamp(c, (uchar8)16, (uchar8)240)) - (ushort)16;
    return convert_uchar8((above * (ushort)255 + (ushort)112) / (ushort)224);
}

// Eight luma samples of row y from column x on, the last column repeated.
uchar8 luma_at(__global const uchar *frame, uint x, uint y, uint width, uint height, uint stride)
{
    __global const uchar *row = frame + (size_t)min(y, height - 1) * stride;
    if (x + 8 <= width)
        return vload8(0, row + x);
    uchar v[8];
    for (uint i = 0; i < 8; i++)
        v[i] = row[min(x + i, width - 1)];
    return vload8(0, v);
}

// Eight pairs of chroma of row y from pair x on, the last pair repeated: Cb is the lower half.
ushort8 chroma_at(__global const uchar *chroma, uint x, uint y, uint width, uint height,
                  uint stride)
{
    __global const uchar *row = chroma + (size_t)min(y, height - 1) * stride;
    if (x + 8 <= width)
        return as_ushort8(vload16(0, row + 2 * x));
    uchar v[16];
    for (uint i = 0; i < 8; i++) {
        uint at = 2 * min(x + i, width - 1);
        v[2 * i] = row[at];
        v[2 * i + 1] = row[at + 1];
    }
    return as_ushort8(vload16(0, v));
}

void transform(const int8 *s, __global const int *factors, __global short *to)
{
    short levels[64];
    int8 column[8];
    for (uint x = 0; x < 8; x++)
        column[x] = vload8(x, COLUMNS);
    // Rows of C are even or odd around their middle, so half the products do.
    int8 sums[4], differences[4];
    for (uint y = 0; y < 4; y++) {
        sums[y] = s[y] + s[7 - y];
        differences[y] = s[y] - s[7 - y];
    }
    for (uint u = 0; u < 8; u++) {
        const int8 *folded = u & 1 ? differences : sums;
        int8 t = (int8)(1 << 6);
        for (uint y = 0; y < 4; y++)
            t += COSINES[8 * u + y] * folded[y];
        t >>= 7;
        int8 c = (int8)(1 << 15);
        c += t.s0 * column[0] + t.s1 * column[1] + t.s2 * column[2] + t.s3 * column[3];
        c += t.s4 * column[4] + t.s5 * column[5] + t.s6 * column[6] + t.s7 * column[7];
        c >>= 16;
        int8 level = (convert_int8(abs(c)) * vload8(u, factors) + (1 << 19)) >> 20;
        level = min(level, (int8)1023);
        vstore8(convert_short8(select(level, -level, c < 0)), u, levels);
    }
    for (uint i = 0; i < 64; i++)
        to[i] = levels[ZIGZAG[i]];
}

KERNEL void jpeg(__global const int *restrict quantiser, __global const uchar *restrict frame,
                 __global short *restrict levels, uint width, uint height, uint stride,
                 uint chroma_offset, uint chroma_stride, uint limited)
{
    uint columns = (width + 15) / 16, rows = (height + 15) / 16;
    uint mcu = get_global_id(0);
    if (mcu >= columns * rows)
        return;
    uint mx = mcu % columns, my = mcu / columns;
    __global short *to = levels + (size_t)mcu * 384;
    int8 s[8];
    for (uint block = 0; block < 4; block++) {
        uint x = mx * 16 + (block & 1) * 8, top = my * 16 + (block >> 1) * 8;
        for (uint y = 0; y < 8; y++) {
            uchar8 row = luma_at(frame, x, top + y, width, height, stride);
            s[y] = convert_int8(limited ? expand_luma(row) : row) - 128;
        }
        transform(s, quantiser, to + 64 * block);
    }
    int8 cr[8];
    for (uint y = 0; y < 8; y++) {
        ushort8 row = chroma_at(frame + chroma_offset, mx * 8, my * 8 + y, (width + 1) / 2,
                                (height + 1) / 2, chroma_stride);
        uchar8 lower = convert_uchar8(row & (ushort)255), upper = convert_uchar8(row >> (ushort)8);
        s[y] = convert_int8(limited ? expand_chroma(lower) : lower) - 128;
        cr[y] = convert_int8(limited ? expand_chroma(upper) : upper) - 128;
    }
    transform(s, quantiser + 64, to + 256);
    transform(cr, quantiser + 64, to + 320);
}
