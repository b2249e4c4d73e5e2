/* Stands in for the Explorer: starts a program, whose command line follows its own name, and waits for its end. The
   parent's name is what a program sees of a double click. */
#include <windows.h>

int main(void)
{
	char *line = GetCommandLineA();
	STARTUPINFOA start = {sizeof start};
	PROCESS_INFORMATION process;
	DWORD code;

	while (*line && *line != ' ')
		line++;
	while (*line == ' ')
		line++;
	if (!CreateProcessA(NULL, line, NULL, NULL, TRUE, 0, NULL, NULL, &start, &process))
		return 99;
	WaitForSingleObject(process.hProcess, INFINITE);
	GetExitCodeProcess(process.hProcess, &code);
	return code;
}
