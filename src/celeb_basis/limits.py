"""Limits: the largest inputs that are taken. What is above them is a typing error, or meant to do harm.

Nothing here imports torch, so that the command line checks its options fast.
"""

# Files, in bytes
MAX_FILE_BYTES = 2**28  # of a photo, or of an artefact; the basis of SDXL has 8 million
MAX_HEADER_BYTES = 2**23  # of an artefact's names and metadata
MAX_TEXT_BYTES = 2**24  # of a list of names, prompts or people, or of a card
MAX_PICKLE_BYTES = 2**26
MAX_JSON_BYTES = 2**26  # of a model's configuration; a tokenizer of CLIP has 2 million
MAX_JSON_DEPTH = 32  # the tokenizers' own reader takes minutes for depths that no configuration has

MAX_KNOWN_MODELS = 100  # whose places are noted in the user's cache

# Texts, in characters
MAX_TOKEN_LENGTH = 100  # of a placeholder token, which also names a file
MAX_NAME_LENGTH = 200  # of a celebrity's name
MAX_PROMPT_LENGTH = 10_000  # a tokenizer takes minutes for millions, to find that they are too many
MAX_TEMPLATE_LENGTH = 2000  # of a caption in a card
MAX_TEMPLATES = 1000
MAX_PROMPTS = 10_000  # in a file
MAX_MESSAGE_LENGTH = 800  # of an error or a notice
MAX_PLUGIN_MESSAGE_LENGTH = 300  # of what others' code says when it fails

# Drawing and fitting
MAX_COUNT = 100_000  # of images, training steps, or names
MAX_SIDE = 4096  # of an image, in pixels
MAX_SAMPLER_STEPS = 1000
MAX_GUIDANCE = 1000
MAX_LEARNING_RATE = 10
MAX_MILESTONES = 100  # at which a fit draws its people
MIN_FACE_SCALE = 0.01  # share of a training image that a face takes
MAX_RADII = 5  # from the mean person, in the celebrities' distance; fits end below 1, and a fit beyond is said
MAX_CAST = 100  # invented people at once
MAX_LORA_WEIGHT = 10  # published ones are meant for about 1
MAX_AMOUNT = 5  # of a trait, in the celebrities' standard deviations; nobody has more
MAX_STRENGTH = 1.5  # farther from the mean person than any celebrity

# Values in artefacts
MAX_BASIS_VALUE = 1e4
MAX_MAP_VALUE = 1e6
MAX_DIRECTIONS = 100  # traits
MIN_VECTOR_LENGTH, MAX_VECTOR_LENGTH = 1e-3, 1e3  # the rows of CLIP's tables have about .4
MAX_VECTOR_DIM = 2**16
MAX_VECTORS = 1000  # of an embedding
MAX_LATENT_SIDE = 1024
MAX_FEATURE = 4096  # numbers that describe a face
MAX_DETAIL_LENGTH = 20_000  # characters of one fact in a picture's metadata

# Photographs
MAX_PHOTOS = 100  # of one person; all are kept in memory, in which one takes up to 25 MB
MAX_KEPT_PIXELS = 2**23  # of an opened photo; a small face of a large one is still seen in so many
MAX_PHOTO_PIXELS = 2**26  # decoded at once; at four bytes each 256 MB
MAX_JPEG_PIXELS = 178_956_970  # of a JPEG, which is decoded at a fraction of its size: Pillow's own limit
MAX_PHOTO_SIDE = 65_535
MAX_PNG_CHUNKS = 2**18  # parts of a PNG
MAX_PNG_TEXT_BYTES = 2**20  # of its texts together; longer ones are left out

# The page
MAX_REQUEST_BYTES = 2**20  # of a request that is no upload
MAX_LOGIN_BYTES = 2**14
MAX_PAGE_SIDE = 2048  # of a picture, in pixels
MAX_UPLOAD_MB = 64  # of one photo, basis or identity file
MAX_UPLOAD_BYTES = MAX_UPLOAD_MB * 2**20 + 2**16  # of a request that uploads one
MAX_DRAINED_BYTES = 2**30  # of a refused request that are still read, so that its sender hears the answer
MAX_UPLOADED_FILES = 8  # of a request; the page itself sends one at a time
MAX_REQUEST_TEXT = 20_000  # characters
MAX_DISK_BYTES = 4 * 2**30  # of all visitors together
MAX_PASSWORD_TRIES = 20  # people at the door with a password
MAX_JOBS = 6  # of one visitor in the queue
MAX_QUEUE = 128
MAX_SESSIONS = 10_000
MAX_CONNECTIONS = 1000

# Tables of many people
MAX_TABLE_BYTES = 2**40
MAX_LINE_BYTES = 2**22  # of a table or a manifest; the line of somebody with 10,000 pictures has 700,000
MAX_CELL_BYTES = 2**17  # of a Parquet file; the module csv has the same limit
MAX_CHUNK_BYTES = 2**28  # of one column in one row group of a Parquet file, unpacked
MAX_CHUNK_VALUES = 2**24
MAX_FOLDER_ENTRIES = 10_000  # files and folders in what is called the photos of one person
