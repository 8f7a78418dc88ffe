// One item per block. Around a block lie: 0 to 3 up its left side, 4 the corner, 5 to 12 above.
FN int two(const int *e, int i)
{
    return (e[i] + e[i + 1] + 1) >> 1;
}

FN int three(const int *e, int i)
{
    return (e[i - 1] + 2 * e[i] + e[i + 1] + 2) >> 2;
}

FN int predicted_at(const int *e, uint mode, int mean, int x, int y)
{
    switch (mode) {
    case 0:
        return e[5 + x];
    case 1:
        return e[3 - y];
    case 2:
        return mean;
    case 3:
        return x + y == 6 ? (e[11] + 3 * e[12] + 2) >> 2 : three(e, 6 + x + y);
    case 4:
        return three(e, 4 + x - y);
    case 5:
        if (2 * x + 1 < y)
            return three(e, 5 - y);
        if (2 * x + 1 == y)
            return three(e, 4);
        return y % 2 ? three(e, 4 + x - y / 2) : two(e, 4 + x - y / 2);
    case 6:
        if (2 * y + 1 < x)
            return three(e, 3 + x);
        if (2 * y + 1 == x)
            return three(e, 4);
        return x % 2 ? three(e, 4 + x / 2 - y) : two(e, 3 + x / 2 - y);
    case 7:
        return y % 2 ? three(e, 6 + x + y / 2) : two(e, 5 + x + y / 2);
    default:
        if (x + 2 * y > 5)
            return e[0];
        if (x + 2 * y == 5)
            return (e[1] + 3 * e[0] + 2) >> 2;
        return x % 2 ? three(e, 2 - y - x / 2) : two(e, 2 - y - x / 2);
    }
}

KERNEL void h264_four(GLOBAL const uchar *restrict given, GLOBAL const uchar *restrict around,
                      GLOBAL uchar *restrict modes, GLOBAL uchar *restrict predicted,
                      uint columns, uint rows, uint given_stride, uint around_stride,
                      uint predicted_stride)
{
    uint block = ITEM;
    if (block >= columns * rows)
        return;
    uint bx = block % columns, by = block / columns;
    uint has_left = bx > 0, has_above = by > 0;
    // Blocks of a macroblock whose neighbour there is coded before them.
    uint has_right = has_above && bx + 1 < columns && (0x575Fu >> (by % 4 * 4 + bx % 4) & 1);
    int e[13];
    for (uint i = 0; i < 13; i++) {
        uint row = i < 4 ? 3 - i : 0, column = i < 5 ? 0 : has_right ? i - 5 : MIN(i - 5, 3u);
        GLOBAL const uchar *from =
            around + (size_t)(4 * by + row) * around_stride + 4 * bx + column;
        if (i < 4)
            e[i] = has_left ? from[-1] : 0;
        else if (i == 4)
            e[i] = has_left && has_above ? *(from - around_stride - 1) : 0;
        else
            e[i] = has_above ? *(from - around_stride) : 0;
    }
    int left = e[0] + e[1] + e[2] + e[3], above = e[5] + e[6] + e[7] + e[8];
    int mean = 128;
    if (has_left || has_above)
        mean = has_left && has_above ? (left + above + 4) >> 3 : (left + above + 2) >> 2;
    GLOBAL const uchar *from = given + (size_t)(4 * by) * given_stride + 4 * bx;
    uint best = 0, least = 0xFFFFFFFFu;
    for (uint mode = 0; mode < 9; mode++) {
        uint needs_left = mode != 0 && mode != 2 && mode != 3 && mode != 7;
        uint needs_above = mode != 1 && mode != 2 && mode != 8;
        if ((needs_left && !has_left) || (needs_above && !has_above))
            continue;
        uint difference = 0;
        for (int y = 0; y < 4; y++)
            for (int x = 0; x < 4; x++) {
                int off = predicted_at(e, mode, mean, x, y) - from[(size_t)y * given_stride + x];
                difference += off < 0 ? -off : off;
            }
        if (difference < least) {
            least = difference;
            best = mode;
        }
    }
    modes[block] = (uchar)best;
    GLOBAL uchar *to = predicted + (size_t)(4 * by) * predicted_stride + 4 * bx;
    for (int y = 0; y < 4; y++)
        for (int x = 0; x < 4; x++)
            to[(size_t)y * predicted_stride + x] = (uchar)predicted_at(e, best, mean, x, y);
}
