// What kernel sources use beside OpenCL C; cuda/prelude.cu has the same names.
#define KERNEL __kernel __attribute__((reqd_work_group_size(GROUP, 1, 1)))
#define FN
#define TABLE __constant
#define GLOBAL __global
// The item, the row of a group, and the columns of a row shared by the items of its group.
#define ITEM ((uint)get_global_id(0))
#define ROW ((uint)get_group_id(0))
#define LANE ((uint)get_local_id(0))
#define COLUMNS(x, count) for (uint x = LANE; x < (count); x += GROUP)
// Kernels that say SPANS are also compiled for items that do SPAN neighbours at once, from x on.
#ifndef SPAN
#define SPAN 1
#endif
#define SPANS(x, count) for (uint x = LANE * SPAN; x < (count); x += GROUP * SPAN)
// A plane that is read sample by sample. In a chain what stands before it may make the samples.
#define PLANE GLOBAL const uchar *restrict src
#define AT(x, y) src[(size_t)(y) * src_stride + (x)]
// Where the items of a group wait for each other.
#define BARRIER barrier(CLK_GLOBAL_MEM_FENCE)
#define ATOMIC_ADD(to, value) atomic_add(to, value)
#define ATOMIC_MIN(to, value) atomic_min(to, value)
#define ATOMIC_MAX(to, value) atomic_max(to, value)
#define BYTE(v) ((uchar)clamp((int)(v), 0, 255))
#define MIN(a, b) min(a, b)
#define MAX(a, b) max(a, b)

// Sample i of n, mirrored at the ends without repeating the last one.
int mirrored(int i, int n)
{
    if (n == 1)
        return 0;
    int period = 2 * n - 2;
    i = (i < 0 ? -i : i) % period;
    return i < n ? i : period - i;
}
