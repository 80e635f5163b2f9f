/*
 * A PKCS #11 library that hands everything to the one that FAULTY_MODULE names, but for two calls, C_Decrypt and C_Sign:
 * when the file that FAULTY_FLAG names is there and says "<mode> <call>", that call goes wrong.
 *
 *   hang     it never comes back
 *   crash    the process is ended by SIGSEGV
 *   device   it answers CKR_DEVICE_ERROR
 *   session  it answers CKR_SESSION_HANDLE_INVALID, once: the file is removed
 *   login    it answers CKR_USER_NOT_LOGGED_IN, once
 */
#define CK_PTR *
#define NULL_PTR 0
#define CK_DEFINE_FUNCTION(returnType, name) returnType name
#define CK_DECLARE_FUNCTION(returnType, name) returnType name
#define CK_DECLARE_FUNCTION_POINTER(returnType, name) returnType(*name)
#define CK_CALLBACK_FUNCTION(returnType, name) returnType(*name)
#include "pkcs11.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static CK_FUNCTION_LIST ours;
static CK_FUNCTION_LIST_PTR theirs;

static CK_RV fault(const char *call)
{
	const char *path = getenv("FAULTY_FLAG");
	char mode[16] = "", which[16] = "";
	FILE *f = path == NULL ? NULL : fopen(path, "r");
	if (f == NULL)
		return CKR_OK;
	int n = fscanf(f, "%15s %15s", mode, which);
	fclose(f);
	if (n != 2 || strcmp(which, call) != 0)
		return CKR_OK;
	if (strcmp(mode, "hang") == 0)
		for (;;)
			pause();
	if (strcmp(mode, "crash") == 0)
		*(volatile int *)0 = 0;
	if (strcmp(mode, "device") == 0)
		return CKR_DEVICE_ERROR;
	if (unlink(path) != 0) /* somebody else had it */
		return CKR_OK;
	return strcmp(mode, "session") == 0 ? CKR_SESSION_HANDLE_INVALID : CKR_USER_NOT_LOGGED_IN;
}

static CK_RV decrypt(CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG inLen, CK_BYTE_PTR out, CK_ULONG_PTR outLen)
{
	CK_RV rv = fault("C_Decrypt");
	return rv != CKR_OK ? rv : theirs->C_Decrypt(s, in, inLen, out, outLen);
}

static CK_RV sign(CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG inLen, CK_BYTE_PTR out, CK_ULONG_PTR outLen)
{
	CK_RV rv = fault("C_Sign");
	return rv != CKR_OK ? rv : theirs->C_Sign(s, in, inLen, out, outLen);
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list)
{
	const char *path = getenv("FAULTY_MODULE");
	void *module = path == NULL ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL);
	CK_C_GetFunctionList get = module == NULL ? NULL : (CK_C_GetFunctionList)dlsym(module, "C_GetFunctionList");
	if (get == NULL)
		return CKR_GENERAL_ERROR;
	CK_RV rv = get(&theirs);
	if (rv != CKR_OK)
		return rv;
	ours = *theirs;
	ours.C_GetFunctionList = C_GetFunctionList;
	ours.C_Decrypt = decrypt;
	ours.C_Sign = sign;
	*list = &ours;
	return CKR_OK;
}
