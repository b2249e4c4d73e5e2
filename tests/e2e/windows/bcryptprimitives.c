/* For tests only: the one function of Windows' bcryptprimitives.dll that Rust's standard library asks for. wine 8, which
 * the tests run Windows programs in, has no such DLL; Windows has. */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG bytes);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE buffer, SIZE_T bytes)
{
	while (bytes > 0) {
		ULONG part = bytes > 0x10000000 ? 0x10000000 : (ULONG)bytes;
		if (!SystemFunction036(buffer, part))
			return FALSE;
		buffer += part;
		bytes -= part;
	}
	return TRUE;
}
