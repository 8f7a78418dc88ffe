// One item per byte.
KERNEL void mix_bytes(GLOBAL const uchar *restrict a, GLOBAL const uchar *restrict b,
                      GLOBAL uchar *restrict dst, uint bytes, int first, int second)
{
    uint i = ITEM;
    if (i < bytes)
        dst[i] = BYTE((a[i] * first + b[i] * second + 128) >> 8);
}
