FN uchar mix_of(uchar a, uchar b, int first, int second)
{
    return BYTE((a * first + b * second + 128) >> 8);
}

// One item per byte.
KERNEL void mix_bytes(GLOBAL const uchar *restrict a, GLOBAL const uchar *restrict b,
                      GLOBAL uchar *restrict dst, uint bytes, int first, int second)
{
    uint i = ITEM;
    if (i < bytes)
        dst[i] = mix_of(a[i], b[i], first, second);
}
