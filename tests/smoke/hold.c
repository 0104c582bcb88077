/* Holds the file of its first argument open without sharing it, says `held`, and lets go after the milliseconds of its
   second. Rust's standard library could do this on Windows alone, and this suite is built for Linux. */
#include <stdio.h>
#include <stdlib.h>
#include <windows.h>

int wmain(int count, wchar_t **words) {
    HANDLE file;
    if (count != 3) return 2;
    file = CreateFileW(words[1], GENERIC_READ, 0, NULL, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
    if (file == INVALID_HANDLE_VALUE) return 1;
    puts("held");
    fflush(stdout);
    Sleep((DWORD)_wtoi(words[2]));
    CloseHandle(file);
    return 0;
}
