<#
.SYNOPSIS
Installs wegent-executor for this user into %USERPROFILE%\.wegent-executor\bin.

.DESCRIPTION
    powershell -ExecutionPolicy Bypass -File install.ps1 -From wegent-executor.exe
    powershell -ExecutionPolicy Bypass -File install.ps1 -From https://.../wegent-executor.exe

Its checksum is read from <From>.sha256, unless it is given. Nothing is installed that does not have
it or does not run here. A config.env that is there stays as it is; otherwise one is made, with
everything in it commented out. WEGENT_EXECUTOR_HOME names another folder.

.PARAMETER From
The program: a file or an http(s) address. The archive of a folder cannot be installed on Windows.

.PARAMETER Sha256
Its checksum, 64 hex digits.

.PARAMETER NoPath
Leave the user's Path as it is.
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory = $true)][string]$From,
    [string]$Sha256,
    [switch]$NoPath
)
Set-StrictMode -Version 2
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue' # Windows PowerShell downloads many times slower with it

function Save-Source([string]$Source, [string]$Target) {
    if ($Source -match '://') {
        # Windows PowerShell does not offer TLS 1.2 by itself.
        [Net.ServicePointManager]::SecurityProtocol =
            [Net.ServicePointManager]::SecurityProtocol -bor [Net.SecurityProtocolType]::Tls12
        Invoke-WebRequest -UseBasicParsing -Uri $Source -OutFile $Target
    }
    else {
        if (-not (Test-Path -LiteralPath $Source -PathType Leaf)) { throw "There is no file $Source." }
        Copy-Item -LiteralPath $Source -Destination $Target
    }
}

function Assert-Address([string]$Address) {
    if ($Address -notmatch '://') { return }
    $uri = [Uri]$Address
    if ($uri.UserInfo) {
        throw 'An address with a login shows it to everybody here: download the file first.'
    }
    if ($uri.Scheme -eq 'https' -or ($uri.Scheme -eq 'http' -and $uri.IsLoopback)) { return }
    if ($uri.Scheme -ne 'http') { throw 'Only files and http(s) addresses can be installed.' }
    # Whoever can change the program on its way can change the checksum beside it as well.
    if (-not $Sha256) { throw 'http:// needs -Sha256: use https://, or give the checksum.' }
}

# A running program cannot be replaced.
function Assert-NotRunning {
    if (-not (Test-Path -LiteralPath $target -PathType Leaf)) { return }
    # With 'Stop', Windows PowerShell takes what a program writes to stderr for an error.
    $ErrorActionPreference = 'Continue'
    try { & $target status 2>&1 | Out-Null }
    catch { return } # it is damaged, and does not start
    if ($LASTEXITCODE -eq 0) {
        throw "An executor is running in ${root}: stop it first, or type: wegent-executor update --from ..."
    }
}

function Get-WantedChecksum([string]$Temporary) {
    $wanted = $Sha256
    if (-not $wanted) {
        $name, $query = $From -split '(?=\?)', 2
        $beside = "$name.sha256$query"
        if ($From -notmatch '://') { $beside = "$From.sha256" }
        try { Save-Source $beside $Temporary }
        catch { throw "There is no checksum beside it ($_): give it with -Sha256." }
        $wanted = (([string](Get-Content -LiteralPath $Temporary -TotalCount 1)) -split '\s')[0]
    }
    if ($wanted -notmatch '^[0-9a-fA-F]{64}$') {
        throw 'What should be a SHA-256 checksum is none.'
    }
    $wanted
}

function Add-Config([string]$Config) {
    if (Test-Path -LiteralPath $Config) {
        Write-Output "Left $Config as it is"
        return
    }
    $lines = @(
        '# Settings of wegent-executor: KEY=value lines; variables of the environment win over them.'
        '# This file holds secrets: only its owner may read it.'
        ''
        '#WEGENT_BACKEND_URL=https://backend.example.com'
        '#WEGENT_AUTH_TOKEN=your-auth-token'
        ''
        '# Without a key, your own `claude` login is used.'
        '#ANTHROPIC_API_KEY=your-api-key'
        ''
        '# In a network with a proxy, or with a certificate authority of its own.'
        '#HTTPS_PROXY=http://proxy.example.com:3128'
        '#SSL_CERT_FILE=C:\certificates\company.pem'
        ''
        '#LOCAL_MAX_CONCURRENT_TASKS=4'
        '#LOG_LEVEL=INFO'
    )
    # CreateNew: never over a file that is there. Without the mark of a byte order.
    $stream = [IO.File]::Open($Config, [IO.FileMode]::CreateNew)
    $bytes = [Text.Encoding]::ASCII.GetBytes(($lines -join "`n") + "`n")
    $stream.Write($bytes, 0, $bytes.Length)
    $stream.Dispose()
    $me = [Security.Principal.WindowsIdentity]::GetCurrent().Name
    & icacls.exe $Config /inheritance:r /grant:r "${me}:(F)" | Out-Null
    Write-Output "Made $Config"
}

function Add-ToPath([string]$Folder) {
    # Not through [Environment], which would replace the variables in Path by their values.
    $key = [Microsoft.Win32.Registry]::CurrentUser.OpenSubKey('Environment', $true)
    $path = [string]$key.GetValue('Path', '', 'DoNotExpandEnvironmentNames')
    if (($path -split ';') -notcontains $Folder) {
        $key.SetValue('Path', ((@($Folder, $path) -ne '') -join ';'), 'ExpandString')
        # This tells running programs to read the environment anew; there is no such variable.
        [Environment]::SetEnvironmentVariable('WEGENT_EXECUTOR_NOTHING', $null, 'User')
        Write-Output "Added $Folder to Path, for new windows"
    }
    $key.Close()
}

$root = $env:WEGENT_EXECUTOR_HOME
if (-not $root) { $root = Join-Path $env:USERPROFILE '.wegent-executor' }
if (-not [IO.Path]::IsPathRooted($root)) { throw 'WEGENT_EXECUTOR_HOME has to be an absolute path.' }
$bin = Join-Path $root 'bin'
$target = Join-Path $bin 'wegent-executor.exe'
# On the target's own drive, so that a rename puts it into its place.
$new = Join-Path $bin ".wegent-executor.new-$PID.exe"

Assert-Address $From
if (Test-Path -LiteralPath $target -PathType Container) {
    throw "$target is a folder: move it away, then try again."
}
Assert-NotRunning
New-Item -ItemType Directory -Force -Path $bin | Out-Null
try {
    Save-Source $From $new
    $wanted = Get-WantedChecksum "$new.sha256"
    $found = (Get-FileHash -Algorithm SHA256 -LiteralPath $new).Hash
    if ($found -ne $wanted) {
        throw "The checksum does not match, nothing was installed: expected $wanted, found $found"
    }
    $version = [string](& $new --version)
    if ($LASTEXITCODE -ne 0 -or $version -notlike 'wegent-executor *') {
        throw 'It does not run on this machine.'
    }
    Assert-NotRunning # which it may be since: a download takes its time
    Move-Item -Force -LiteralPath $new -Destination $target
    Write-Output "Installed $version as $target"
}
finally {
    Remove-Item -Force -ErrorAction SilentlyContinue -LiteralPath $new, "$new.sha256"
}
Add-Config (Join-Path $root 'config.env')
if (-not $NoPath) { Add-ToPath $bin }
if ($env:WEGENT_EXECUTOR_HOME) {
    Write-Output "It finds this home as long as WEGENT_EXECUTOR_HOME is set to $root"
}
Write-Output "Next: fill in $root\config.env, then: wegent-executor doctor"
